"""LaTeX tables (booktabs) that compile as they are."""

from collections.abc import Sequence

from reports.formatting import Dialect, cell_text, value_parts
from reports.model import Cell, Row, Table, Text, Value
from reports.plain import row_cells

_DIALECT = Dialect(plus_minus=r"\,\scriptsize$\pm$\,", dash="--", minus="$-$")
_SPECIALS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "–": "--", "−": "$-$", "Δ": r"$\Delta$", "ρ": r"$\rho$", "·": r"$\cdot$",
    "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$",
}  # fmt: skip


def latex(tables: Sequence[Table]) -> str:
    r"""One float a table; needs \usepackage{booktabs} and a T1 font encoding."""
    head = r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs}; table* for two columns"
    return "\n".join([head, *(_latex(table) for table in tables)])


def escape(text: str) -> str:
    """Text in which no character is a command."""
    return "".join(_SPECIALS.get(character, character) for character in text)


def _latex(table: Table) -> str:
    columns = "".join(column.align[0] for column in table.columns)
    headings = [escape(column.heading) for column in table.columns]
    label = "".join(c if c.isalnum() else "-" for c in f"{table.title.split(':')[0]}-{table.name}")
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{label}}}",
        *_fit(len(table.columns)),
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        _line(headings),
    ]
    for _, rows in table.sections():
        lines += [r"\midrule", *(_line(_cells(table, row)) for row in rows)]
    notes = r"\\ ".join(escape(note) for note in table.notes)
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
    size, gap = (r"\footnotesize", 3) if columns <= 12 else (r"\scriptsize", 2)
    return size, rf"\setlength{{\tabcolsep}}{{{gap}pt}}"


def _cells(table: Table, row: Row) -> list[str]:
    cells = [_cell(cell) for cell in row_cells(table, row.cells)]
    if row.baseline:
        cells[0] = rf"\textbf{{{cells[0]}}}"
    return cells


def _cell(cell: Cell | None) -> str:
    if isinstance(cell, Value):
        mean, half = value_parts(cell, _DIALECT)
        return rf"{mean}{{\scriptsize\,$\pm$\,{half}}}"
    # Everything else is words, or digits that the plain dialect already spells with escapables.
    return escape(cell_text(cell if cell is not None else Text("–")))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
