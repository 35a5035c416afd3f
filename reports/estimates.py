"""All estimates of a report's tables as one data frame.

The frame has one row per table row and metric. In this module, rows of tables are called lines, to
tell them from rows of the frame. docs/report.md describes the columns.
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
# Columns of differences to controls. Each has further columns with the _VERSUS_SUFFIXES.
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
        tables: Tables of a report. Tables without columns of means, such as tables of ranks, add no
            rows.

    Returns:
        One row per table line and metric. Only the row of the table's metric has the comparison
        with the baseline. Unknown numbers are null.
    """
    rows = [
        row for table in tables for line in table.rows for row in _make_estimate_rows(table, line)
    ]
    return pl.DataFrame(rows, schema=COLUMNS)


def _make_estimate_rows(table: Table, line: Row) -> Iterator[dict[str, Any]]:
    """Yield a row of the frame per metric of a table's line."""
    datasets_cell = line.cells.get("datasets")
    fields: dict[str, Any] = {
        "table": table.name,
        "kind": _get_kind(table, line),
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
        row |= _make_interval_fields(cell.estimate)
        if is_compared:
            row |= _make_comparison_fields(line.comparison) if line.comparison else {}
            row |= _make_control_fields(line)
        yield row


def _get_kind(table: Table, line: Row) -> str:
    """Return "control" or "external" for such lines, and the table's kind for all others."""
    kinds = {LEVELS: table.kind, CONTROLS_SECTION: "control", EXTERNAL: EXTERNAL}
    return kinds[line.section]


def _make_control_fields(line: Row) -> dict[str, Any]:
    """Return the fields of a line's differences to the controls that have its levels."""
    fields: dict[str, Any] = {}
    for name in _VERSUS:
        cell = line.cells.get(name)
        if isinstance(cell, Value):
            fields |= _make_interval_fields(cell.estimate, name)
            fields |= {f"{name}_n": cell.estimate.n, f"{name}_at": cell.at or None}
    return fields


def _make_comparison_fields(comparison: Compared) -> dict[str, Any]:
    """Return the fields of a line's comparison with the baseline."""
    fields = {name: value for name, value in vars(comparison).items() if name in COLUMNS}
    # the column `datasets` counts the datasets in the mean, not those in the difference
    fields.pop("datasets")
    fields["pairs_datasets"] = comparison.datasets[0] if comparison.datasets else None
    fields["is_constant"] = comparison.is_constant
    fields["pairs"] = comparison.difference.n
    if comparison.classes:
        fields["classes_low"] = comparison.classes.low
        fields["classes_high"] = comparison.classes.high
    if comparison.more_seeds:
        fields["more_seeds_low"], fields["more_seeds_high"] = comparison.more_seeds
    return fields | _make_interval_fields(comparison.difference, "difference")


def _make_interval_fields(estimate: Estimate, name: str = "") -> dict[str, float | None]:
    """Return the fields of an estimate: NAME, NAME_low and NAME_high; mean, low, high for ""."""
    prefix = f"{name}_" if name else ""
    ends = {f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}
    return {name or "mean": estimate.mean, **ends}
