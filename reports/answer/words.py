"""How an answer writes numbers: in whole sentences, one decimal, two digits of p."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from reports.stats import MOST_SEEDS, Judgement, Verdict
from reports.tables import PValue, Quantity, Row, Table, Text, Value, cell_text, spelled_row

MOST_NAMED = 6  # rows that one sentence names


def name_of(table: Table, row: Row) -> str:
    """A row in a sentence: the level alone where one column names it."""
    first = row.cells.get(table.columns[0].key)
    return first.text if table.labels == 1 and isinstance(first, Text) else spelled_row(table, row)


def difference(row: Row) -> Value | None:
    """A row's difference to the baseline, if it has one."""
    cell = row.cells.get("difference")
    return cell if isinstance(cell, Value) else None


def value_in(row: Row, key: str) -> float:
    """The mean that a row has in a column; not a number without one."""
    cell = row.cells.get(key)
    return cell.estimate.mean if isinstance(cell, Value) else math.nan


def p_words(row: Row) -> str:
    """The row's corrected p in words, "" without one."""
    cell = row.cells.get("p")
    if not isinstance(cell, PValue):
        return ""
    return f"Holm p {cell_text(cell)}"


def differs(row: Row) -> bool:
    """Whether the corrected p says that the difference is not 0."""
    cell = row.cells.get("p")
    return isinstance(cell, PValue) and cell.p < 0.05


def signed(row: Row, *, turned: bool = False) -> str:
    """The difference with its interval: "+0.6 ± 0.5"; turned: of the baseline to the row."""
    cell = difference(row)
    if cell is None:
        return "–"
    # what a table writes as (2/3), over fewer datasets than the others
    part = re.fullmatch(r"\((\d+)/(\d+)\)", cell.suffix)
    if part:
        cell = replace(cell, suffix=f"(over {part[1]} of {part[2]} datasets)")
    if turned:
        e = cell.estimate
        low, high = (None if end is None else -end for end in (e.high, e.low))
        cell = replace(cell, estimate=replace(e, mean=-e.mean, low=low, high=high))
    return cell_text(cell)


def points(effect: float) -> str:
    """An effect in words: "1 point", "0.5 points"."""
    return f"{effect:g} point{'' if effect == 1 else 's'}"


def further(judgement: Judgement) -> str:
    """How many seeds more would settle it, "" where it is settled or nothing is known of that."""
    if judgement.verdict is not Verdict.UNDECIDED or judgement.more is None:
        return ""
    if judgement.more > MOST_SEEDS:
        return f"over {MOST_SEEDS} seeds more"
    return f"about {judgement.more} seed{'s' if judgement.more > 1 else ''} more"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first few of many."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def detectable(rows: Sequence[Row]) -> str:
    """What the seeds could have shown, by the least certain of the rows; "" where not known."""
    known = [(row.cells.get("detectable"), row.cells.get("pairs")) for row in rows]
    found = [(d, n) for d, n in known if isinstance(d, Quantity) and isinstance(n, Quantity)]
    if not found:
        return ""
    most, pairs = max(found, key=lambda pair: pair[0].number)
    return (
        f"With {pairs.number:.0f} seeds a difference of {cell_text(most)} is told from 0 in 4 of 5"
        " studies."
    )
