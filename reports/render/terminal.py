"""The answer and tables for a terminal, fitted to its width.

Grid and Words are rich's Table and Text; Table is that of reports.cells. Widths are in characters.
"""

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text as Words

from harness.wording import printable_lines
from reports.answer import Answer
from reports.cells import Cell, Column, Counts, Legend, Table
from reports.formatting import PLAIN, STACKED, Dialect, broken, cell_text
from reports.render.markup import shown
from reports.stats import Verdict

_STYLES = {
    Verdict.HIGHER: "bold green",
    Verdict.LOWER: "bold green",
    Verdict.EQUIVALENT: "bold cyan",
    Verdict.INCONCLUSIVE: "bold",
}
# From the roomiest grid to the narrowest: how a mean and its interval are written, and how wide a
# label may be before it wraps; a longer word widens it. 0: as narrow as the labels' longest word.
_LAYOUTS = ((PLAIN, 30), (Dialect(plus_minus="±"), 16), (STACKED, 16), (STACKED, 0))
FILE_WIDTH = 160
_WIDEST_LABEL = 30  # the widest that a label may be; a longer word in it is broken


def printable(text: str, style: str = "") -> Words:
    """A text to be shown as it is: in a plain str, rich would take [words] for its markup."""
    return Words(printable_lines(text), style)


def answer_view(name: str, answer: Answer) -> RenderableType:
    """The answer as one rich renderable: a finding a paragraph, limits above and cautions below.

    Args:
        name: of the study.
        answer: that it gives.
    """
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", overflow="fold")
    grid.add_column(overflow="fold")
    for finding in answer.limits:
        grid.add_row(printable(finding.subject, "yellow"), printable(finding.text, "yellow"))
    for finding in answer.findings:
        told = Words()
        if finding.verdict:
            told.append(f"{finding.verdict}. ", _STYLES[finding.verdict])
        grid.add_row(printable(finding.subject), told.append_text(printable(finding.text)))
    for place, caution in enumerate(answer.cautions):
        subject = "" if place else "cautions"  # not those of the last finding
        grid.add_row(printable(subject, "yellow"), printable(caution, "yellow"))
    if answer.rule:
        grid.add_row("", printable(answer.rule, "dim"))
    return Group(printable(f"{name}: the answer", "bold"), Padding(grid, (1, 1, 1, 1)))


def terminal_view(tables: Sequence[Table], width: int, *, legend: bool) -> RenderableType:
    """The tables and their notes as one rich renderable for a console `width` characters wide.

    Only tables whose place is "page" are shown; those whose place is "files" are counted.

    Args:
        tables: of a report.
        width: of the console.
        legend: whether notes say what the columns are, too.
    """
    parts: list[RenderableType] = []
    said: set[str] = set()
    for table in (table for table in tables if table.place == "page"):
        grid, dropped = _fitted(table, width)
        # A note that a table above has is not repeated here. The other formats do repeat it, since
        # a table may be copied from them without the rest.
        notes = [note for note in table.notes if note not in said]
        notes = [note for note in notes if legend or not isinstance(note, Legend)]
        said |= set(notes)
        if dropped:
            notes.append(f"too narrow for: {', '.join(dropped)} (see the files)")
        parts += [grid, Padding(_footnotes(notes), (0, 1, 1, 1))]
    more = sum(table.place == "files" for table in tables)
    told = [f"{more} more table{'s' if more > 1 else ''} in the files"] if more else []
    told += [] if legend else ["what the columns are: ship-report NAME --notes, or the page"]
    if told:
        parts.append(Padding(Words("; ".join(told), "dim"), (0, 1, 1, 1)))
    return Group(*parts)


def plain_text(view: RenderableType, width: int) -> str:
    """What a console `width` characters wide would show, without colours."""
    file = io.StringIO()  # without force_jupyter rich would show it in a notebook, too
    console = Console(file=file, record=True, width=width, color_system=None, force_jupyter=False)
    console.print(view)
    lines = console.export_text().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def _footnotes(notes: Sequence[str]) -> Grid:
    """The notes with a hanging indent."""
    listed = Grid.grid(padding=(0, 1, 0, 0))
    listed.add_column(style="dim")
    listed.add_column(style="dim", overflow="fold")
    for note in notes:
        listed.add_row("·", printable(note))
    return listed


def _fitted(table: Table, width: int) -> tuple[Grid | Group, list[str]]:
    """The roomiest grid that fits, and the headings of the columns that had to be left out.

    A column is left out only if no layout fits with it. Where even the narrowest grid is too wide,
    each row is a paragraph: rich would cut numbers and labels, and a cut number is another one.
    """
    columns = table.page_columns
    console = Console(file=io.StringIO(), width=1000, force_jupyter=False)  # narrows no grid
    for most in range(max(column.drop for column in columns) + 1):
        kept = [column for column in columns if not 0 < column.drop <= most]
        dropped = [column.heading for column in columns if column not in kept]
        for dialect, label_width in _LAYOUTS:
            grid = _grid(table, dialect, label_width, kept)
            if console.measure(grid).maximum <= width:
                return grid, dropped
    return _paragraphs(table), []


def _paragraphs(table: Table) -> Group:
    """Each row as its labels, and behind them every measure with its heading."""
    paragraphs: list[Words] = []
    n, headings = table.labels, [column.heading for column in table.page_columns]
    for _, rows in shown(table, lambda cell: " ".join(_cell(cell, PLAIN).split())):
        for _, texts in rows:
            labels = ", ".join(filter(None, texts[:n]))
            measures = zip(headings[n:], texts[n:], strict=True)
            told = "; ".join(f"{heading} {text}" for heading, text in measures if text)
            named = printable(f"{labels}: ", "bold")
            paragraphs.append(named.append_text(printable(told, "not bold")))
    return Group(printable(table.title, "bold italic"), Words("\n\n").join(paragraphs))


def _grid(table: Table, dialect: Dialect, label_width: int, columns: Sequence[Column]) -> Grid:
    """The grid of some of a table's columns in a layout.

    Where intervals stand below their means a heading is broken into lines: that of a label between
    words, that of a measure within dataset names, too.
    """
    grid = Grid(
        title=printable(table.title, "bold"), title_justify="left", box=SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for place, column in enumerate(columns):
        label, heading = place < table.labels, column.heading
        if dialect is STACKED:
            heading = "\n".join(heading.split(" ") if label else broken(heading))
        width = _label_width(table, column, label_width) if label else None
        grid.add_column(
            printable(heading), justify=column.align, no_wrap=not label, max_width=width,
            overflow="fold",
        )  # fmt: skip
    for _, rows in shown(table, lambda cell: _cell(cell, dialect), columns):
        for row, texts in rows:
            grid.add_row(*map(printable, texts), style="bold" if row.baseline else "")
        grid.add_section()
    return grid


def _cell(cell: Cell | None, dialect: Dialect) -> str:
    """A cell's text; below the number of finished rows stand counts of those not in the mean."""
    if isinstance(cell, Counts):
        return "\n".join([cell.of_all, *cell.absent()])
    return cell_text(cell, dialect)


def _label_width(table: Table, column: Column, least: int) -> int:
    """How wide the labels of a column may be before they wrap."""
    cells = [row.cells[column.key] for row in table.rows if column.key in row.cells]
    texts = [column.heading, *(cell_text(cell) for cell in cells)]
    longest = max((cell_len(word) for text in texts for word in text.split()), default=0)
    return min(_WIDEST_LABEL, max(least, longest))
