"""Render a study's answer and its tables as text for a terminal of a given width.

All widths are in characters.
"""

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from harness.wording import count, escape_controls_in_lines
from reports.answer import Answer
from reports.cells import Cell, Column, Counts, Legend, Table
from reports.formatting import PLAIN, STACKED, Dialect, break_heading, format_cell_text
from reports.render.markup import format_sections
from reports.stats import Verdict

_STYLES = {
    Verdict.HIGHER: "bold green",
    Verdict.LOWER: "bold green",
    Verdict.EQUIVALENT: "bold cyan",
    Verdict.INCONCLUSIVE: "bold",
}
# Layouts from the widest to the narrowest: (dialect that formats a mean and its interval, width at
# which labels wrap). A label with a wider word wraps at the width of this word.
_LAYOUTS = ((PLAIN, 30), (Dialect(plus_minus="±"), 16), (STACKED, 16), (STACKED, 0))
FILE_WIDTH = 160  # width of tables in files
_MAX_LABEL_WIDTH = 30  # wider words in labels are broken


def make_literal_text(text: str, style: str = "") -> RichText:
    """Return a text that rich shows literally. In a str, it would interpret [words] as markup."""
    return RichText(escape_controls_in_lines(text), style)


def make_answer_view(name: str, answer: Answer) -> RenderableType:
    """Return the answer as a rich renderable.

    It contains the limits, the findings, the cautions, and the rule by which the verdicts were
    reached.

    Args:
        name: Name of the study.
        answer: Answer of the study.
    """
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", overflow="fold")
    grid.add_column(overflow="fold")
    for finding in answer.limits:
        grid.add_row(
            make_literal_text(finding.subject, "yellow"), make_literal_text(finding.text, "yellow")
        )
    for finding in answer.findings:
        text = RichText()
        if finding.verdict:
            text.append(f"{finding.verdict}. ", _STYLES[finding.verdict])
        grid.add_row(
            make_literal_text(finding.subject), text.append_text(make_literal_text(finding.text))
        )
    for index, caution in enumerate(answer.cautions):
        # a heading, because cautions are not about the finding above them
        subject = "" if index else "cautions"
        grid.add_row(make_literal_text(subject, "yellow"), make_literal_text(caution, "yellow"))
    if answer.rule:
        grid.add_row("", make_literal_text(answer.rule, "dim"))
    return Group(make_literal_text(f"{name}: the answer", "bold"), Padding(grid, (1, 1, 1, 1)))


def make_terminal_view(tables: Sequence[Table], width: int, *, legend: bool) -> RenderableType:
    """Return the tables with their notes as a rich renderable.

    Only tables with the place "everywhere" are shown. A hint after them gives the number of tables
    with the place "files".

    Args:
        tables: Tables of a report.
        width: Width of the console.
        legend: Whether to include notes that explain the columns.
    """
    renderables: list[RenderableType] = []
    previous_notes: set[str] = set()
    for table in (table for table in tables if table.place == "everywhere"):
        grid, dropped = _fit_table(table, width)
        # A note of a previous table is not repeated. Other formats repeat notes, because a single
        # table may be copied from them.
        notes = [note for note in table.notes if note not in previous_notes]
        notes = [note for note in notes if legend or not isinstance(note, Legend)]
        previous_notes |= set(notes)
        if dropped:
            columns = ", ".join(dropped)
            notes.append(f"columns left out at this width: {columns} (see the report's files)")
        renderables += [grid, Padding(_make_notes_grid(notes), (0, 1, 1, 1))]
    n_more = sum(table.place == "files" for table in tables)
    hints = [f"{count(n_more, 'more table')} in the report's files"] if n_more else []
    if not legend:
        hints.append(
            "for an explanation of the columns, run ship-report with --notes or open the HTML page"
        )
    if hints:
        renderables.append(Padding(RichText("; ".join(hints), "dim"), (0, 1, 1, 1)))
    return Group(*renderables)


def render_plain_text(view: RenderableType, width: int) -> str:
    """Return what a console of the given width would show, without colors."""
    file = io.StringIO()
    # force_jupyter=False, because in a notebook rich would also display the text
    console = Console(file=file, record=True, width=width, color_system=None, force_jupyter=False)
    console.print(view)
    lines = console.export_text().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def _make_notes_grid(notes: Sequence[str]) -> RichTable:
    """Return the notes with a hanging indent."""
    grid = RichTable.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="dim")
    grid.add_column(style="dim", overflow="fold")
    for note in notes:
        grid.add_row("·", make_literal_text(note))
    return grid


def _fit_table(table: Table, width: int) -> tuple[RichTable | Group, list[str]]:
    """Return the widest grid that fits, and the headings of the columns that were dropped.

    If no layout fits with all columns, columns are dropped in the order of `Column.drop`. If even
    the narrowest grid is too wide, rich would truncate numbers and labels. Each row then becomes a
    paragraph, and no column is dropped.
    """
    columns = table.page_columns
    # so wide that rich measures the full width of a grid
    console = Console(file=io.StringIO(), width=1000, force_jupyter=False)
    for max_drop in range(max(column.drop for column in columns) + 1):
        kept_columns = [column for column in columns if not 0 < column.drop <= max_drop]
        headings = [column.heading for column in columns if column not in kept_columns]
        for dialect, label_width in _LAYOUTS:
            grid = _make_table_grid(table, dialect, label_width, kept_columns)
            if console.measure(grid).maximum <= width:
                return grid, headings
    return _make_row_paragraphs(table), []


def _make_row_paragraphs(table: Table) -> Group:
    """Return each row as a paragraph: its labels, then each measurement with its heading."""
    paragraphs: list[RichText] = []
    n_labels, headings = table.n_labels, [column.heading for column in table.page_columns]
    for _, rows in format_sections(table, format_cell_text):
        for _, texts in rows:
            labels = ", ".join(filter(None, texts[:n_labels]))
            measurements = zip(headings[n_labels:], texts[n_labels:], strict=True)
            line = "; ".join(f"{heading} {text}" for heading, text in measurements if text)
            paragraph = make_literal_text(f"{labels}: ", "bold")
            paragraphs.append(paragraph.append_text(make_literal_text(line, "not bold")))
    return Group(make_literal_text(table.title, "bold italic"), RichText("\n\n").join(paragraphs))


def _make_table_grid(
    table: Table, dialect: Dialect, label_width: int, columns: Sequence[Column]
) -> RichTable:
    """Return the grid of some of a table's columns.

    With the dialect STACKED, headings are split into lines: those of label columns between words,
    those of measurement columns also within dataset names.

    Args:
        table: The table.
        dialect: Dialect of means with intervals.
        label_width: Width at which labels wrap, see _LAYOUTS.
        columns: Columns of the grid.
    """
    grid = RichTable(
        title=make_literal_text(table.title, "bold"), title_justify="left", box=SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for index, column in enumerate(columns):
        is_label, heading = index < table.n_labels, column.heading
        if dialect is STACKED:
            heading = "\n".join(heading.split(" ") if is_label else break_heading(heading))
        width = _compute_label_width(table, column, label_width) if is_label else None
        grid.add_column(
            make_literal_text(heading), justify=column.align, no_wrap=not is_label, max_width=width,
            overflow="fold",
        )  # fmt: skip
    for _, rows in format_sections(table, lambda cell: _format_cell(cell, dialect), columns):
        for row, texts in rows:
            grid.add_row(*map(make_literal_text, texts), style="bold" if row.is_baseline else "")
        grid.add_section()
    return grid


def _format_cell(cell: Cell | None, dialect: Dialect) -> str:
    """Return a cell's text. The numbers of failed, pruned and missing pairs have a line each."""
    if isinstance(cell, Counts):
        return "\n".join([cell.finished_text, *cell.absence_texts()])
    return format_cell_text(cell, dialect)


def _compute_label_width(table: Table, column: Column, min_width: int) -> int:
    """Return the width at which the labels of a column wrap."""
    cells = [row.cells[column.key] for row in table.rows if column.key in row.cells]
    texts = [column.heading, *(format_cell_text(cell) for cell in cells)]
    max_word = max((cell_len(word) for text in texts for word in text.split()), default=0)
    return min(_MAX_LABEL_WIDTH, max(min_width, max_word))
