"""The answer and tables as Markdown, and as LaTeX (booktabs) that compiles without changes."""

import re
from collections.abc import Callable, Iterator, Sequence

from harness.wording import printable
from reports.answer import Answer
from reports.cells import MARK, Cell, Column, Row, Table, Text, Value
from reports.formatting import STACKED, break_heading, cell_text

_BREAKS = re.compile("[\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029]")
# Characters at the start of a line that Markdown interprets as a heading, quotation or list.
_BLOCK = re.compile(r"^(\s*)(#+(?=\s|$)|>|[-+](?=\s|$))")
_NUMBERED = re.compile(r"^(\s*\d+)([.)](?=\s|$))")
_COMMANDS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "–": "--", "−": "$-$", "Δ": r"$\Delta$", "ρ": r"$\rho$", "·": r"$\cdot$",
    "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "→": r"$\to$", "²": "$^2$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "-": "-{}",  # for the first of two hyphens: LaTeX would turn --set into a dash
}  # fmt: skip
_MAX_LARGE_FONT_COLUMNS = 12  # maximum number of columns of a LaTeX table in the larger font


def section_texts(
    table: Table, write: Callable[[Cell | None], str], columns: Sequence[Column] = ()
) -> Iterator[tuple[str, list[tuple[Row, list[str]]]]]:
    """Yield each section of a table: its name, and its rows with the texts of their cells.

    The first label of a row with flags ends with MARK. Missing labels are empty.

    Args:
        table: The table.
        write: Function that returns the text of a cell. If a row has no cell in a column of
            measurements, it is called with None.
        columns: Columns to show. Defaults to the columns of the page.
    """
    columns = columns or table.page_columns
    empty_labels: dict[str, Cell] = {
        column.key: Text("") for column in table.columns[: table.n_labels]
    }
    for section, rows in table.sections():
        texts = []
        for row in rows:
            cells = [row.cells.get(column.key, empty_labels.get(column.key)) for column in columns]
            if row.flags and isinstance(cells[0], Text):
                cells[0] = Text(f"{cells[0].text} {MARK}")
            texts.append((row, list(map(write, cells))))
        yield section, texts


def answer_markdown(answer: Answer) -> str:
    """Return the answer as a Markdown list, followed by a blank line."""
    lines = []
    for finding in answer.leading:
        verdict = f"*{finding.verdict}.* " if finding.verdict else ""
        lines.append(
            f"- **{escape_markdown(finding.subject)}:** {verdict}{escape_markdown(finding.text)}"
        )
    lines += [f"- {escape_markdown(line)}" for line in (*answer.cautions, answer.rule) if line]
    return "\n".join([*lines, "", ""])


def tables_as_markdown(tables: Sequence[Table]) -> str:
    """Return GitHub-flavored Markdown: a heading, a pipe table and a list of notes per table.

    Tables with the place "csv" are left out.
    """
    return "\n".join(_markdown_table(table) for table in tables if table.place != "csv")


def _markdown_table(table: Table) -> str:
    """Return a table with its heading and notes as Markdown."""
    rules = {"left": ":---", "right": "---:"}
    lines = [
        [escape_markdown(column.heading) for column in table.page_columns],
        [rules[column.align] for column in table.page_columns],
    ]
    for _, rows in section_texts(table, lambda cell: escape_markdown(cell_text(cell))):
        lines += [
            [f"**{t}**" if row.is_baseline and t else t for t in texts] for row, texts in rows
        ]
    table_lines = [f"| {' | '.join(line)} |" for line in lines]
    notes = [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"### {escape_markdown(table.title)}", "", *table_lines, "", *notes, ""])


def escape_markdown(text: str) -> str:
    """Escape Markdown's special characters in a cell or list item.

    An underscore within a word is not special.
    """
    text = printable(_BREAKS.sub(" ", text))
    text = re.sub(r"([\\|*`\[\]~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return _NUMBERED.sub(r"\1\\\2", _BLOCK.sub(r"\1\\\2", text))


def tables_as_latex(tables: Sequence[Table]) -> str:
    r"""Return a LaTeX float per table. Documents need \usepackage{booktabs} and the T1 encoding.

    Tables with the place "csv" are left out.
    """
    preamble = r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs}; table* for two columns"
    return "\n".join([preamble, *(_latex_table(table) for table in tables if table.place != "csv")])


def escape_latex(text: str) -> str:
    """Escape all characters that are special in LaTeX."""
    text = printable(" ".join(text.splitlines()))
    return re.sub("-(?=-)|[^-]", lambda match: _COMMANDS.get(match[0], match[0]), text)


def _protect_start(text: str) -> str:
    r"""Return a text that can follow \\, which would read a leading [ or * as its argument."""
    return f"{{}}{text}" if text.lstrip().startswith(("[", "*")) else text


def _latex_table(table: Table) -> str:
    """Return a table with its caption and notes as a LaTeX float."""
    columns, is_stacked = table.page_columns, table.is_crowded
    headings = [
        _latex_heading(column, is_stacked and i >= table.n_labels)
        for i, column in enumerate(columns)
    ]
    label = "".join(c if c.isalnum() else "-" for c in f"{table.title.split(':')[0]}-{table.name}")
    # font size, and gap between columns, so that a table with this many columns fits on a page
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
        _latex_row(headings),
    ]
    for _, rows in section_texts(table, lambda cell: _latex_cell(cell, is_stacked)):
        lines.append(r"\midrule")
        for row, (first, *other_cells) in rows:
            lines.append(
                _latex_row([rf"\textbf{{{first}}}" if row.is_baseline else first, *other_cells])
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


def _latex_row(cells: Sequence[str]) -> str:
    return _protect_start(" & ".join(cells)) + r" \\"


def _latex_heading(column: Column, is_stacked: bool) -> str:
    """Return a column's heading as LaTeX.

    Args:
        column: The column.
        is_stacked: Whether to break the heading into lines, because intervals are below means.
    """
    lines = [_protect_start(escape_latex(line)) for line in break_heading(column.heading)]
    if not is_stacked or len(lines) == 1:
        return escape_latex(column.heading)
    text = r"\\".join(lines)
    return rf"\shortstack[r]{{{text}}}"


def _latex_cell(cell: Cell | None, is_stacked: bool) -> str:
    """Return a cell as LaTeX. Intervals have a smaller font.

    Args:
        cell: The cell. None if the row has none in this column.
        is_stacked: Whether the interval is below the mean, instead of after it.
    """
    if not isinstance(cell, Value):
        return escape_latex(cell_text(cell))
    mean, *parts = map(escape_latex, cell_text(cell, STACKED).split("\n"))
    if is_stacked:
        lines = r"\\[-2pt] ".join([mean, *(rf"\tiny {part}" for part in parts)])
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}"
    interval = r"\,".join(parts)
    return rf"{mean}{{\scriptsize\,{interval}}}"
