"""Every estimate that a report's tables show, as one frame: a row for each line and metric.

docs/report.md has a table of its columns.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from reports.stats import Estimate
from reports.tables import AVERAGE, LEVELS, Compared, Counts, Row, Table, Value, spelled_row

_NUMBERS = pl.Float64
COLUMNS: dict[str, Any] = {
    "table": pl.String,
    "kind": pl.String,
    "line": pl.String,
    "arm": pl.String,
    "is_baseline": pl.Boolean,
    "dataset": pl.String,
    "metric": pl.String,
    "n": pl.Int64,
    "failed": pl.Int64,
    "pruned": pl.Int64,
    "missing": pl.Int64,
    "mean": _NUMBERS,
    "low": _NUMBERS,
    "high": _NUMBERS,
    "difference": _NUMBERS,
    "difference_low": _NUMBERS,
    "difference_high": _NUMBERS,
    "pairs": pl.Int64,
    "classes_low": _NUMBERS,
    "classes_high": _NUMBERS,
    "p": _NUMBERS,
    "holm_p": _NUMBERS,
    "detectable": _NUMBERS,
    "decision": pl.String,
    "verdict": pl.String,
    "pairs_more": pl.Int64,
    "is_unchanged": pl.Boolean,
}


def estimates(tables: Sequence[Table]) -> pl.DataFrame:
    """The estimates of tables whose lines are levels, settings or methods over datasets.

    Args:
        tables: of a report; those of ranks, selection and quality have columns of their own.

    Returns:
        A row for each line of a table and each metric; what is compared with the baseline stands
        in the row of the metric that the table is of. Unknown numbers are null.
    """
    rows = [
        row
        for table in tables
        if table.kind not in ("ranks", "")
        for line in table.rows
        for row in _rows(table, line)
    ]
    return pl.DataFrame(rows, schema=COLUMNS)


def _rows(table: Table, line: Row) -> Iterator[dict[str, Any]]:
    about = {
        "table": table.name,
        "kind": "arm" if line.section != LEVELS else table.kind,
        "line": spelled_row(table, line),
        "arm": line.arm or None,
        "is_baseline": line.baseline,
    }
    counts = line.cells.get("n")
    lost = counts if isinstance(counts, Counts) else Counts(0)
    for key, cell in line.cells.items():
        if not isinstance(cell, Value) or key == "difference":
            continue
        dataset, metric = "", key
        if table.kind == "methods":  # DATASET/METRIC; the table's own metric may have a slash, too
            own_metric = key.endswith(f"/{table.metric}")
            metric = table.metric if own_metric else key.rpartition("/")[2]
            dataset = key.removesuffix(f"/{metric}")
        own = {
            **about,
            "dataset": dataset or None,
            "metric": metric,
            **_ends("mean", cell.estimate),
            "n": cell.estimate.n,
            "failed": lost.failed,
            "pruned": lost.pruned,
            "missing": lost.missing,
        }
        is_compared = metric == table.metric and dataset in ("", AVERAGE)
        yield own | (_compared(line.compared) if line.compared and is_compared else {})


def _compared(compared: Compared) -> dict[str, Any]:
    found = {
        **_ends("difference", compared.difference),
        "pairs": compared.difference.n,
        "p": compared.raw_p,
        "holm_p": compared.p,
        "detectable": compared.detectable,
        "decision": compared.decision,
        "verdict": compared.verdict and str(compared.verdict),
        "pairs_more": compared.more,
        "is_unchanged": compared.unchanged,
    }
    if compared.classes is not None:
        found |= {"classes_low": compared.classes.low, "classes_high": compared.classes.high}
    return found


def _ends(name: str, estimate: Estimate) -> dict[str, float | None]:
    prefix = "" if name == "mean" else f"{name}_"
    return {name: estimate.mean, f"{prefix}low": estimate.low, f"{prefix}high": estimate.high}
