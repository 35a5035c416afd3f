"""What is known of factors that vary together, by ranks over settings."""

from collections.abc import Sequence

from reports.answer.model import Finding
from reports.answer.words import differs, listed, p_words
from reports.stats import Estimate
from reports.tables import PValue, Quantity, Ranged, Row, Table, cell_text

_LEVEL = 0.05


def ranks_finding(table: Table, head: str, wanted: int) -> Finding:
    """The finding of a table of rank associations.

    Args:
        table: a row a factor.
        head: the metric's heading.
        wanted: settings that the sampler was asked for.
    """
    subject = "factors, varied together"
    finished = max((_settings(row) for row in table.rows), default=0)
    over = f"{finished} of {wanted} settings finished"
    if finished > 1 and all(row.unchanged for row in table.rows):
        same = f"All {finished} settings that finished have the same mean {head}."
        return Finding(subject, None, same)
    sure = [row for row in table.rows if differs(row)]
    rest = [row for row in table.rows if _can_be_told(row) and row not in sure]
    silent = [row for row in table.rows if not _can_be_told(row)]
    texts = [f"{over}."] if finished < wanted and len(silent) < len(table.rows) else []
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
    if silent:
        names = listed([_name(row) for row in silent])
        every = len(silent) == len(table.rows)
        which = f"{over}, in no order of which" if every else "in no order of the settings"
        texts.append(f"Nothing can be said of {names}: {which} would Holm's p be below {_LEVEL}.")
    return Finding(subject, None, " ".join(texts))


def _settings(row: Row) -> int:
    cell = row.cells.get("n")
    return int(cell.number) if isinstance(cell, Quantity) else 0


def _can_be_told(row: Row) -> bool:
    """Whether any order of the settings that finished would have had a p below 0.05."""
    cell = row.cells.get("least")
    return isinstance(cell, PValue) and cell.p < _LEVEL


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
