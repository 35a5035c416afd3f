"""Render the answer as Markdown, and tables as Markdown and LaTeX."""

import re
from collections.abc import Callable, Iterator, Sequence

from harness.wording import escape_controls
from reports.answer import Answer
from reports.cells import MARK, Cell, Column, Row, Table, Text, Value
from reports.formatting import STACKED, break_heading, format_cell_text

# Characters that end a line, as in str.splitlines.
_LINE_BREAKS = re.compile("[\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029]")
# Characters at the start of a line that Markdown interprets as a heading, quotation or list.
_BLOCK_START = re.compile(r"^(\s*)(#+(?=\s|$)|>|[-+](?=\s|$))")
_NUMBERED_ITEM = re.compile(r"^(\s*\d+)([.)](?=\s|$))")
# Special and typographic characters -> LaTeX.
_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "–": "--", "−": "$-$", "Δ": r"$\Delta$", "ρ": r"$\rho$", "·": r"$\cdot$",
    "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "→": r"$\to$", "²": "$^2$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "-": "-{}",  # only before another hyphen, because LaTeX typesets -- as a dash
}  # fmt: skip
# LaTeX tables with more columns have a smaller font.
_MAX_LARGE_FONT_COLUMNS = 12


def format_sections(
    table: Table, format_cell: Callable[[Cell | None], str], columns: Sequence[Column] = ()
) -> Iterator[tuple[str, list[tuple[Row, list[str]]]]]:
    """Yield each section of a table: its name, and its rows with the texts of their cells.

    In a row with flags, MARK is appended to the first label. A missing label becomes an empty text.

    Args:
        table: The table.
        format_cell: Function that returns the text of a cell. If a row has no cell in a column of
            measurements, it is called with None.
        columns: Columns to show. Defaults to the columns of the page.
    """
    columns = columns or table.page_columns
    empty_labels: dict[str, Cell] = {
        column.key: Text("") for column in table.columns[: table.n_labels]
    }
    for section, rows in table.sections():
        rows_with_texts = []
        for row in rows:
            cells = [row.cells.get(column.key, empty_labels.get(column.key)) for column in columns]
            if row.flags and isinstance(cells[0], Text):
                cells[0] = Text(f"{cells[0].text} {MARK}")
            rows_with_texts.append((row, list(map(format_cell, cells))))
        yield section, rows_with_texts


def format_answer_as_markdown(answer: Answer) -> str:
    """Return the answer as a Markdown list, followed by a blank line."""
    lines = []
    for finding in answer.leading:
        verdict = f"*{finding.verdict}.* " if finding.verdict else ""
        lines.append(
            f"- **{escape_markdown(finding.subject)}:** {verdict}{escape_markdown(finding.text)}"
        )
    lines += [f"- {escape_markdown(line)}" for line in (*answer.cautions, answer.rule) if line]
    return "\n".join([*lines, "", ""])


def format_tables_as_markdown(tables: Sequence[Table]) -> str:
    """Return GitHub-flavored Markdown: a heading, a pipe table and a list of notes per table.

    Tables with the place "csv" are left out.
    """
    return "\n".join(_format_table_as_markdown(table) for table in tables if table.place != "csv")


def _format_table_as_markdown(table: Table) -> str:
    """Return a table with its heading and notes as Markdown."""
    alignments = {"left": ":---", "right": "---:"}
    lines = [
        [escape_markdown(column.heading) for column in table.page_columns],
        [alignments[column.align] for column in table.page_columns],
    ]
    for _, rows in format_sections(table, lambda cell: escape_markdown(format_cell_text(cell))):
        lines += [
            [f"**{text}**" if row.is_baseline and text else text for text in texts]
            for row, texts in rows
        ]
    table_lines = [f"| {' | '.join(line)} |" for line in lines]
    notes = [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"### {escape_markdown(table.title)}", "", *table_lines, "", *notes, ""])


def escape_markdown(text: str) -> str:
    """Escape Markdown's special characters in a cell or list item.

    Underscores within words stay as they are, because Markdown does not interpret them.
    """
    text = escape_controls(_LINE_BREAKS.sub(" ", text))
    text = re.sub(r"([\\|*`\[\]~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return _NUMBERED_ITEM.sub(r"\1\\\2", _BLOCK_START.sub(r"\1\\\2", text))


def format_tables_as_latex(tables: Sequence[Table]) -> str:
    r"""Return a LaTeX float per table. Documents need \usepackage{booktabs} and the T1 encoding.

    Tables with the place "csv" are left out. Names with characters that T1 lacks, such as Greek
    letters, do not compile with pdfLaTeX.
    """
    requirements = (
        r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs};"
        " in two-column documents, use table*"
    )
    return "\n".join(
        [requirements, *(_format_table_as_latex(table) for table in tables if table.place != "csv")]
    )


def escape_latex(text: str) -> str:
    r"""Replace special and typographic characters by LaTeX commands, and line breaks by spaces.

    A leading [ or * is special only after \\; see _protect_start.
    """
    text = escape_controls(_LINE_BREAKS.sub(" ", text))
    return re.sub("-(?=-)|[^-]", lambda match: _LATEX_ESCAPES.get(match[0], match[0]), text)


def _protect_start(text: str) -> str:
    r"""Return a text that can follow \\, which would read a leading [ or * as its argument."""
    return f"{{}}{text}" if text.lstrip().startswith(("[", "*")) else text


def _format_table_as_latex(table: Table) -> str:
    """Return a table with its caption and notes as a LaTeX float."""
    columns, is_stacked = table.page_columns, table.is_crowded
    headings = [
        _format_heading_as_latex(column, is_stacked and i >= table.n_labels)
        for i, column in enumerate(columns)
    ]
    label = re.sub(r"[\W_]", "-", f"{table.title.split(':')[0]}-{table.name}")
    # font size, and gap between columns, so that the table fits the width of a page
    size, gap = (
        (r"\footnotesize", 3) if len(columns) <= _MAX_LARGE_FONT_COLUMNS else (r"\scriptsize", 1)
    )
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\label{{tab:{label}}}",
        size,
        rf"\setlength{{\tabcolsep}}{{{gap}pt}}",
        rf"\begin{{tabular}}{{@{{}}{''.join(column.align[0] for column in columns)}@{{}}}}",
        r"\toprule",
        _format_row_as_latex(headings),
    ]
    for _, rows in format_sections(table, lambda cell: _format_cell_as_latex(cell, is_stacked)):
        lines.append(r"\midrule")
        for row, (first, *other_cells) in rows:
            # only the label is bold, because bold numbers usually mark the best result in papers
            lines.append(
                _format_row_as_latex(
                    [rf"\textbf{{{first}}}" if row.is_baseline else first, *other_cells]
                )
            )
    notes = r"\\ ".join(_protect_start(escape_latex(note)) for note in table.notes)
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {notes}}}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _format_row_as_latex(cells: Sequence[str]) -> str:
    """Return cells in LaTeX as a line of a tabular."""
    return _protect_start(" & ".join(cells)) + r" \\"


def _format_heading_as_latex(column: Column, is_stacked: bool) -> str:
    """Return a column's heading as LaTeX.

    Args:
        column: The column.
        is_stacked: Whether to break the heading into lines, because the column is narrow.
    """
    lines = [_protect_start(escape_latex(line)) for line in break_heading(column.heading)]
    if not is_stacked or len(lines) == 1:
        return escape_latex(column.heading)
    text = r"\\".join(lines)
    return rf"\shortstack[r]{{{text}}}"


def _format_cell_as_latex(cell: Cell | None, is_stacked: bool) -> str:
    """Return a cell as LaTeX. Intervals have a smaller font.

    Args:
        cell: The cell. None if the row has none in this column.
        is_stacked: Whether the interval is below the mean, instead of after it.
    """
    if not isinstance(cell, Value):
        return escape_latex(format_cell_text(cell))
    # STACKED is used in both cases, because its line breaks separate mean, interval and suffix
    mean, *interval_and_suffix = map(escape_latex, format_cell_text(cell, STACKED).split("\n"))
    if is_stacked:
        lines = r"\\[-2pt] ".join([mean, *(rf"\tiny {part}" for part in interval_and_suffix)])
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}"
    small_text = r"\,".join(interval_and_suffix)
    return rf"{mean}{{\scriptsize\,{small_text}}}"
