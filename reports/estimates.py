"""All estimates of a report's tables as one frame, with a row per table line and metric.

docs/report.md describes the columns.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from harness.store import COMPETING
from reports.cells import (
    AVERAGE,
    CONTROLS_SECTION,
    EXTERNAL,
    LEVELS,
    Quantity,
    Row,
    Spread,
    Table,
    Value,
    versus_key,
)
from reports.stats import Compared, Estimate

_TEXTS = ["table", "kind", "row", "control", "dataset", "metric", "verdict", "flags"]
_COUNTS = ["n", "failed", "pruned", "missing", "datasets", "pairs", "pairs_datasets"]
_COUNTS += ["more_seeds_low", "more_seeds_high", "epoch_min", "epoch_max"]
_VERSUS = tuple(versus_key(control) for control in COMPETING)
_TEXTS += [f"{name}_at" for name in _VERSUS]
_COUNTS += [f"{name}_n" for name in _VERSUS]
_TYPES = {
    **dict.fromkeys(_TEXTS, pl.String),
    **dict.fromkeys(_COUNTS, pl.Int64),
    **dict.fromkeys(("is_baseline", "is_unchanged", "is_constant"), pl.Boolean),
}
_NAMES = (
    "table kind row control is_baseline dataset metric n failed pruned missing mean low high"
    " datasets difference difference_low difference_high pairs pairs_datasets classes_low"
    " classes_high p holm_p beyond_p within_p mde verdict more_seeds_low"
    " more_seeds_high is_unchanged is_constant"
    " epoch epoch_min epoch_max flags"
)
_VERSUS_SUFFIXES = ("", "_low", "_high", "_n", "_at")
_ALL_NAMES = (*_NAMES.split(), *(name + suffix for name in _VERSUS for suffix in _VERSUS_SUFFIXES))
COLUMNS: dict[str, Any] = {name: _TYPES.get(name, pl.Float64) for name in _ALL_NAMES}


def make_estimates_frame(tables: Sequence[Table]) -> pl.DataFrame:
    """Return the estimates of tables that compare levels, configurations or methods.

    Args:
        tables: Tables of a report. Tables without a column of means of a metric are ignored, for
            example tables of ranks.

    Returns:
        A row per table line and metric. The comparison with the baseline is in the row of the
        table's metric. Unknown numbers are null.
    """
    rows = [row for table in tables for line in table.rows for row in _estimate_rows(table, line)]
    return pl.DataFrame(rows, schema=COLUMNS)


def _estimate_rows(table: Table, line: Row) -> Iterator[dict[str, Any]]:
    """Yield a row per metric of a table's line."""
    datasets_cell = line.cells.get("datasets")
    fields: dict[str, Any] = {
        "table": table.name,
        "kind": _kind(table, line),
        "row": line.name,
        "control": line.control or None,
        "is_baseline": line.is_baseline,
        "failed": line.counts.failed,
        "pruned": line.counts.pruned,
        "missing": line.counts.missing,
        "flags": line.flag_counts or None,
    }
    epoch = line.cells.get("epoch")
    if isinstance(epoch, Spread):
        fields |= {"epoch": epoch.median, "epoch_min": epoch.low, "epoch_max": epoch.high}
    for column in table.columns:
        cell, metric, dataset = line.cells.get(column.key), column.metric, column.dataset
        if not metric or not isinstance(cell, Value):
            continue
        row = {**fields, "dataset": dataset or None, "metric": metric, "n": cell.estimate.n}
        is_compared = metric == table.metric and dataset in ("", AVERAGE)
        if dataset == AVERAGE and isinstance(datasets_cell, Quantity):
            row["datasets"] = int(datasets_cell.number)
        comparison_fields = (
            _comparison_fields(line.comparison) if line.comparison and is_compared else {}
        )
        control_fields = _control_fields(line) if is_compared else {}
        yield row | _interval_fields(cell.estimate) | comparison_fields | control_fields


def _kind(table: Table, line: Row) -> str:
    """Return the kind of a line: the kind of its table, "control" or "external"."""
    kinds = {LEVELS: table.kind, CONTROLS_SECTION: "control", EXTERNAL: EXTERNAL}
    return kinds[line.section]


def _control_fields(line: Row) -> dict[str, Any]:
    """Return the differences to the controls at a line's levels."""
    differences: dict[str, Any] = {}
    for name in _VERSUS:
        cell = line.cells.get(name)
        if isinstance(cell, Value):
            differences |= _interval_fields(cell.estimate, name)
            differences |= {f"{name}_n": cell.estimate.n, f"{name}_at": cell.at or None}
    return differences


def _comparison_fields(comparison: Compared) -> dict[str, Any]:
    """Return the fields of a line's comparison with the baseline."""
    values = {name: value for name, value in vars(comparison).items() if name in COLUMNS}
    values.pop("datasets")  # the column has the number of datasets behind the mean
    values["pairs_datasets"] = comparison.datasets[0] if comparison.datasets else None
    other_fields: dict[str, Any] = (
        {"classes_low": comparison.classes.low, "classes_high": comparison.classes.high}
        if comparison.classes
        else {}
    )
    if comparison.more_seeds:
        other_fields["more_seeds_low"], other_fields["more_seeds_high"] = comparison.more_seeds
    values["is_constant"] = comparison.is_constant
    return (
        values
        | _interval_fields(comparison.difference, "difference")
        | {"pairs": comparison.difference.n}
        | other_fields
    )


def _interval_fields(estimate: Estimate, name: str = "") -> dict[str, float | None]:
    """Return the fields of an estimate: `name` (or mean), `name`_low and `name`_high."""
    prefix = f"{name}_" if name else ""
    ends = {f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}
    return {name or "mean": estimate.mean, **ends}
