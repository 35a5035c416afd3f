"""All estimates of a report's tables as one data frame.

The frame has one row per row of a table, metric and dataset. docs/report.md describes its columns.
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
    make_versus_key,
)
from reports.stats import Compared, Estimate

# Keys of the columns with differences to controls. The frame has one column per key and suffix.
_CONTROL_DIFFERENCES = tuple(make_versus_key(control) for control in COMPETING)
_CONTROL_SUFFIXES: dict[str, Any] = {
    "": pl.Float64, "_low": pl.Float64, "_high": pl.Float64, "_n": pl.Int64, "_at": pl.String,
}  # fmt: skip
# Column -> type, in the order of the frame's columns.
SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("table", "kind", "row", "control"), pl.String),
    "is_baseline": pl.Boolean,
    **dict.fromkeys(("dataset", "metric"), pl.String),
    **dict.fromkeys(("n", "failed", "pruned", "missing"), pl.Int64),
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
    "datasets": pl.Int64,
    **dict.fromkeys(("difference", "difference_low", "difference_high"), pl.Float64),
    **dict.fromkeys(("pairs", "pairs_datasets"), pl.Int64),
    **dict.fromkeys(("classes_low", "classes_high"), pl.Float64),
    **dict.fromkeys(("p", "holm_p", "beyond_p", "within_p", "mde"), pl.Float64),
    "verdict": pl.String,
    **dict.fromkeys(("more_seeds_low", "more_seeds_high"), pl.Int64),
    **dict.fromkeys(("is_unchanged", "is_constant"), pl.Boolean),
    "epoch": pl.Float64,
    **dict.fromkeys(("epoch_min", "epoch_max"), pl.Int64),
    "flags": pl.String,
    **{
        f"{key}{suffix}": column_type
        for key in _CONTROL_DIFFERENCES
        for suffix, column_type in _CONTROL_SUFFIXES.items()
    },
}


def make_estimates_frame(tables: Sequence[Table]) -> pl.DataFrame:
    """Return the estimates of tables that compare levels, configurations or methods.

    Args:
        tables: Tables of a report. Tables without columns of means, such as tables of ranks, add no
            rows.

    Returns:
        One row per table row, metric and dataset. Comparisons with the baseline and with controls
        are only in rows of the table's metric; for several datasets, only in those of its average.
        Unknown numbers are null.
    """
    rows = [
        row
        for table in tables
        for table_row in table.rows
        for row in _make_estimate_rows(table, table_row)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _make_estimate_rows(table: Table, table_row: Row) -> Iterator[dict[str, Any]]:
    """Yield the rows of the frame for a row of a table: one per column of means."""
    datasets_cell = table_row.cells.get("datasets")
    fields: dict[str, Any] = {
        "table": table.name,
        "kind": _get_kind(table, table_row),
        "row": table_row.name,
        "control": table_row.control or None,
        "is_baseline": table_row.is_baseline,
        "failed": table_row.counts.failed,
        "pruned": table_row.counts.pruned,
        "missing": table_row.counts.missing,
        "flags": table_row.flag_counts or None,
    }
    epoch = table_row.cells.get("epoch")
    if isinstance(epoch, Spread):
        fields |= {"epoch": epoch.median, "epoch_min": epoch.low, "epoch_max": epoch.high}
    for column in table.columns:
        cell, metric, dataset = table_row.cells.get(column.key), column.metric, column.dataset
        if not metric or not isinstance(cell, Value):
            continue
        row = {**fields, "dataset": dataset or None, "metric": metric, "n": cell.estimate.n}
        has_comparisons = metric == table.metric and dataset in ("", AVERAGE)
        if dataset == AVERAGE and isinstance(datasets_cell, Quantity):
            row["datasets"] = int(datasets_cell.number)
        row |= _make_interval_fields(cell.estimate)
        if has_comparisons:
            if table_row.comparison:
                row |= _make_comparison_fields(table_row.comparison)
            row |= _make_control_fields(table_row)
        yield row


def _get_kind(table: Table, table_row: Row) -> str:
    """Return the kind of a row: "control", "external", or else the kind of its table."""
    kinds = {LEVELS: table.kind, CONTROLS_SECTION: "control", EXTERNAL: EXTERNAL}
    return kinds[table_row.section]


def _make_control_fields(table_row: Row) -> dict[str, Any]:
    """Return the fields of a row's differences to the competing controls at the row's levels."""
    fields: dict[str, Any] = {}
    for name in _CONTROL_DIFFERENCES:
        cell = table_row.cells.get(name)
        if isinstance(cell, Value):
            fields |= _make_interval_fields(cell.estimate, name)
            fields |= {f"{name}_n": cell.estimate.n, f"{name}_at": cell.at or None}
    return fields


def _make_comparison_fields(comparison: Compared) -> dict[str, Any]:
    """Return the fields of a row's comparison with the baseline."""
    fields: dict[str, Any] = {
        "pairs": comparison.difference.n,
        "pairs_datasets": comparison.datasets[0] if comparison.datasets else None,
        "p": comparison.p,
        "holm_p": comparison.holm_p,
        "beyond_p": comparison.beyond_p,
        "within_p": comparison.within_p,
        "mde": comparison.mde,
        "verdict": comparison.verdict,
        "is_unchanged": comparison.is_unchanged,
        "is_constant": comparison.is_constant,
    }
    if comparison.classes:
        fields["classes_low"] = comparison.classes.low
        fields["classes_high"] = comparison.classes.high
    if comparison.more_seeds:
        fields["more_seeds_low"], fields["more_seeds_high"] = comparison.more_seeds
    return fields | _make_interval_fields(comparison.difference, "difference")


def _make_interval_fields(estimate: Estimate, name: str = "") -> dict[str, float | None]:
    """Return an estimate as NAME, NAME_low, NAME_high; as mean, low, high if `name` is ""."""
    prefix = f"{name}_" if name else ""
    ends = {f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}
    return {name or "mean": estimate.mean, **ends}
