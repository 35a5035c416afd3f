"""What is known of factors that vary together, by ranks over settings."""

from collections.abc import Sequence

from reports.answer.model import Finding
from reports.answer.words import differs, listed, p_words
from reports.stats import Estimate
from reports.tables import Ranged, Row, Table, cell_text


def ranks_finding(table: Table, head: str) -> Finding:
    """The finding of a table of rank associations.

    Args:
        table: a row a factor.
        head: the metric's heading.
    """
    sure = [row for row in table.rows if differs(row)]
    known = [row for row in table.rows if "p" in row.cells]
    if not known:
        return Finding("factors", None, "too few settings finished for ranks.")
    rest = [row for row in known if row not in sure]
    texts = []
    if sure:
        texts.append(f"{head} goes with {listed([_told(row) for row in sure])}.")
    if rest:
        names = listed([_name(row) for row in rest])
        least = f"{_largest(rest)}{_least_p(rest)}"
        texts.append(
            f"It goes with {names} no more than chance would have it ({least})."
            if sure
            else f"{head} goes with no factor more than chance would have it ({least})."
        )
    return Finding("factors, varied together", None, " ".join(texts))


def _name(row: Row) -> str:
    return cell_text(row.cells["factor"])


def _told(row: Row) -> str:
    rho = row.cells.get("rho")
    shown = f"ρ {cell_text(rho)}, " if rho else ""
    return f"{_name(row)} ({shown}{p_words(row)})"


def _rhos(rows: Sequence[Row]) -> list[Estimate]:
    return [cell.estimate for row in rows if isinstance(cell := row.cells.get("rho"), Ranged)]


def _largest(rows: Sequence[Row]) -> str:
    """The largest correlation of some rows, "" where none has one."""
    sizes = [abs(rho.mean) for rho in _rhos(rows)]
    return f"|ρ| ≤ {max(sizes):.2f}, " if sizes else ""


def _least_p(rows: Sequence[Row]) -> str:
    least = min(rows, key=lambda row: getattr(row.cells["p"], "p", 1.0))
    return p_words(least).replace("Holm p ", "Holm p ≥ ").replace("≥ <", "<")
