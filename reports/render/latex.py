"""LaTeX tables (booktabs) that compile as they are."""

from collections.abc import Sequence

from reports.contract import printable
from reports.render.plain import row_cells
from reports.tables import (
    Cell,
    Column,
    Dialect,
    Row,
    Table,
    Text,
    Value,
    broken,
    cell_text,
    value_parts,
)

_DIALECT = Dialect(dash="--", minus="$-$")
_SPECIALS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "–": "--", "−": "$-$", "Δ": r"$\Delta$", "ρ": r"$\rho$", "·": r"$\cdot$",
    "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "→": r"$\to$", "²": "$^2$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$",
}  # fmt: skip


def latex(tables: Sequence[Table]) -> str:
    r"""One float a table; needs \usepackage{booktabs} and a T1 font encoding."""
    head = r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs}; table* for two columns"
    return "\n".join([head, *(_latex(table) for table in tables if table.place != "csv")])


def escape(text: str) -> str:
    """Text in which no character is a command."""
    text = printable(" ".join(text.splitlines()))
    return "".join(_SPECIALS.get(character, character) for character in text)


def _first(text: str) -> str:
    r"""A text behind \\, which would take [ for its own argument, and * for a part of its name."""
    return f"{{}}{text}" if text.lstrip().startswith(("[", "*")) else text


def _latex(table: Table) -> str:
    shown = table.page_columns
    columns = "".join(column.align[0] for column in shown)
    stacked = table.crowded
    headings = [_heading(column, stacked and i >= table.labels) for i, column in enumerate(shown)]
    label = "".join(c if c.isalnum() else "-" for c in f"{table.title.split(':')[0]}-{table.name}")
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{label}}}",
        *_fit(len(shown)),
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        _line(headings),
    ]
    for _, rows in table.sections():
        lines += [r"\midrule", *(_line(_cells(table, row, stacked)) for row in rows)]
    notes = r"\\ ".join(_first(escape(note)) for note in table.notes)
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {notes}}}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _fit(columns: int) -> tuple[str, str]:
    """Type size and column gap with which a table of this many columns fits a page's width."""
    size = r"\footnotesize" if columns <= 12 else r"\scriptsize"
    gap = 3 if columns <= 12 else 2 if columns <= 16 else 1
    return size, rf"\setlength{{\tabcolsep}}{{{gap}pt}}"


def _heading(column: Column, stacked: bool) -> str:
    lines = [_first(escape(line)) for line in broken(column.heading)]
    if not stacked or len(lines) == 1:
        return escape(column.heading)
    text = r"\\".join(lines)
    return rf"\shortstack[r]{{{text}}}"


def _cells(table: Table, row: Row, stacked: bool) -> list[str]:
    cells = [_cell(cell, stacked) for cell in row_cells(table, row)]
    if row.baseline:
        cells[0] = rf"\textbf{{{cells[0]}}}"
    return cells


def _cell(cell: Cell | None, stacked: bool) -> str:
    if not isinstance(cell, Value):
        # Words, or digits that the plain dialect already spells with escapables.
        return escape(cell_text(cell if cell is not None else Text("–")))
    mean, joined, interval = value_parts(cell, _DIALECT)
    suffix = escape(cell.suffix)
    sign = r"$\pm$" if joined == _DIALECT.plus_minus else ""
    if stacked:
        below = [rf"\tiny{sign or ' '}{interval}", *([rf"\tiny {suffix}"] if suffix else [])]
        lines = r"\\[-2pt] ".join([mean, *below])
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}"
    behind = rf"\,{suffix}" if suffix else ""
    return rf"{mean}{{\scriptsize\,{sign}\,{interval}{behind}}}"


def _line(cells: Sequence[str]) -> str:
    return _first(" & ".join(cells)) + r" \\"
