"""Tables for the terminal, fitted to its width.

Grid and Words are rich's Table and Text; Table is that of reports.tables. Widths are in characters.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text as Words

from reports.render.plain import row_cells
from reports.render.words import printable
from reports.tables import (
    PLAIN,
    STACKED,
    Cell,
    Column,
    Counts,
    Dialect,
    Legend,
    Table,
    broken,
    cell_text,
)


@dataclass(frozen=True)
class _Layout:
    """How tightly a grid is set.

    dialect: how a mean and its interval are written.
    label_width: how wide a label may be before it wraps; a longer word widens it. None: as narrow
        as the longest word of the labels.
    """

    dialect: Dialect
    label_width: int | None

    @property
    def stacked(self) -> bool:
        """Whether an interval stands below its mean, not beside it."""
        return "\n" in self.dialect.plus_minus


# from the roomiest to the narrowest
_LAYOUTS = (
    _Layout(PLAIN, 30),
    _Layout(Dialect(plus_minus="±"), 16),
    _Layout(STACKED, 16),
    _Layout(STACKED, None),
)
FILE_WIDTH = 140
_WIDEST_LABEL = 30  # the widest that a label may be; a longer word in it is cut


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
        wanted = [note for note in table.notes if legend or not isinstance(note, Legend)]
        notes = [note for note in wanted if note not in said]
        said |= set(notes)
        if len(notes) < len(wanted):
            notes.append("otherwise as above")
        if dropped:
            notes.append(f"too narrow for: {', '.join(dropped)} (see the files)")
        parts += [grid, Padding(_footnotes(notes), (0, 1, 1, 1))]
    more = sum(table.place == "files" for table in tables)
    told = [f"{more} more table{'s' if more > 1 else ''} in the files"] if more else []
    told += [] if legend else ["what the columns are: ship-report --notes, or the page"]
    if told:
        text = "; ".join(told)
        parts.append(Padding(Words(text, "dim"), (0, 1, 1, 1)))
    return Group(*parts)


def terminal_text(tables: Sequence[Table], width: int = FILE_WIDTH) -> str:
    """What terminal_view shows, as plain text `width` characters wide."""
    return plain_text(terminal_view(tables, width, legend=True), width)


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
    listed.add_column(style="dim")
    for note in notes:
        listed.add_row("·", printable(note))
    return listed


def _fitted(table: Table, width: int) -> tuple[Grid, list[str]]:
    """The roomiest grid that fits, and the headings of the columns that had to be left out.

    A column is left out only if no layout fits with it. Where even the narrowest grid is too wide,
    each row is a paragraph: rich would cut numbers and labels, and a cut number is another one.
    """
    columns = table.page_columns
    for most in range(max(column.drop for column in columns) + 1):
        kept = [column for column in columns if not 0 < column.drop <= most]
        dropped = [column.heading for column in columns if column not in kept]
        for layout in _LAYOUTS:
            grid = _grid(table, layout, kept)
            if _natural_width(grid) <= width:
                return grid, dropped
    return _paragraphs(table, columns), []


def _paragraphs(table: Table, columns: Sequence[Column]) -> Grid:
    """Each row as its labels, and behind them every measure with its heading."""
    grid = Grid(
        title=printable(table.title, "bold"), title_justify="left", box=None, show_header=False,
        pad_edge=False, padding=(0, 0, 1, 0),
    )  # fmt: skip
    grid.add_column(overflow="fold")
    keys = [column.key for column in columns]
    for _, rows in table.sections():
        for row in rows:
            texts = [" ".join(_cell(c, PLAIN).split()) for c in row_cells(table, row, keys)]
            labels = ", ".join(filter(None, texts[: table.labels]))
            measures = [
                f"{column.heading} {text}"
                for column, text in zip(columns[table.labels :], texts[table.labels :], strict=True)
                if text
            ]
            paragraph = printable(f"{labels}: ", "bold")
            paragraph.append_text(printable("; ".join(measures), "not bold"))
            grid.add_row(paragraph, style="bold" if row.baseline else "")
    return grid


def _natural_width(grid: Grid) -> int:
    """How wide a grid is where the console does not narrow it."""
    console = Console(file=io.StringIO(), width=1000, force_jupyter=False)
    return console.measure(grid).maximum


def _grid(table: Table, layout: _Layout, columns: Sequence[Column]) -> Grid:
    """The grid of some of a table's columns in a layout."""
    grid = Grid(
        title=printable(table.title, "bold"), title_justify="left", box=SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    keys = [column.key for column in columns]
    for place, column in enumerate(columns):
        heading = _heading(column, place < table.labels, layout)
        grid.add_column(
            printable(heading), justify=column.align, no_wrap=place >= table.labels,
            max_width=_label_width(table, column, layout) if place < table.labels else None,
        )  # fmt: skip
    for _, rows in table.sections():
        for row in rows:
            shown = [printable(_cell(cell, layout.dialect)) for cell in row_cells(table, row, keys)]
            grid.add_row(*shown, style="bold" if row.baseline else "")
        grid.add_section()
    return grid


def _heading(column: Column, label: bool, layout: _Layout) -> str:
    """A column's heading; a stacked layout breaks it into lines.

    The heading of a label is broken between words, that of a measure within dataset names, too.
    """
    if not layout.stacked:
        return column.heading
    return column.heading.replace(" ", "\n") if label else "\n".join(broken(column.heading))


def _cell(cell: Cell | None, dialect: Dialect) -> str:
    """A cell's text; below the number of finished rows stand counts of those not in the mean."""
    if isinstance(cell, Counts):
        return "\n".join([str(cell.done), *cell.absent()])
    return cell_text(cell, dialect)


def _label_width(table: Table, column: Column, layout: _Layout) -> int:
    """How wide the labels of a column may be before they wrap."""
    cells = [row.cells[column.key] for row in table.rows if column.key in row.cells]
    texts = [column.heading, *(cell_text(cell) for cell in cells)]
    longest = max((len(word) for text in texts for word in text.split()), default=0)
    return min(_WIDEST_LABEL, max(layout.label_width or 0, longest))
