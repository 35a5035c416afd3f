"""How a comparison to the baseline stands in a table."""

from collections.abc import Sequence

from reports.stats import Comparison, Estimate
from reports.tables.model import CLASSES, Cell, Column, PValue, Quantity, Ranged, Row, Value

DECISION = Column("decision", "decision", "left")


def difference_columns(head: str, *, designed: bool = False) -> list[Column]:
    """The columns of a comparison to the baseline.

    Args:
        head: the metric's heading.
        designed: whether the study's own design decides, in place of plain tests.
    """
    plain = [Column("p", "Holm p"), Column("detectable", "MDE", drop=5)]
    return [
        Column("difference", f"Δ{head}"),
        Column(CLASSES, f"Δ{head} over classes", drop=4),
        Column("pairs", "pairs", drop=2),
        *([DECISION] if designed else plain),
    ]


def kept_columns(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns of a table: without the one over classes, where no row has it."""
    told = any(CLASSES in row.cells for row in rows)
    return tuple(column for column in columns if told or column.key != CLASSES)


def compared_in(family: Sequence[float | None]) -> int:
    """How many comparisons a family has.

    Args:
        family: p-values; None: not compared.
    """
    return max(1, sum(p is not None for p in family))


def compared_cells(
    comparison: Comparison | None,
    p: float | None,
    comparisons: int,
    decimals: int = 1,
    classes: Estimate | None = None,
) -> dict[str, Cell]:
    """Difference, pairs, corrected p and detectable effect, as far as there are any.

    Args:
        comparison: of a row to the baseline; None: there is none.
        p: corrected.
        comparisons: in the family.
        decimals: of the metric's cells.
        classes: the difference's interval over other test classes, if there is one.
    """
    if comparison is None:
        return {}
    cells: dict[str, Cell] = {
        "difference": Value(comparison.difference, signed=True, decimals=decimals),
        "pairs": Quantity(comparison.difference.n, 0),
    }
    if classes is not None:
        cells[CLASSES] = Ranged(classes, 1, bare=True)
    if p is not None:
        cells["p"] = PValue(p)
    detectable = comparison.detectable(comparisons)
    if detectable is not None:
        cells["detectable"] = Quantity(detectable, decimals)
    return cells
