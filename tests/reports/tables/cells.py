"""Rows and cells of tables, picked out by name."""

from collections.abc import Iterator
from typing import Any

from reports.stats import Estimate
from reports.tables.build import build_tables
from reports.tables.model import PValue, Quantity, Ranged, Row, Table, Text, Value
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import one_factor


def cells_of(table: Table, label: str) -> Row:
    """The row whose first label is `label`."""
    return next(row for row in table.rows if row.cells[table.columns[0].key] == Text(label))


def numbers(table: Table) -> Iterator[float]:
    """Every number in a table's cells."""
    for cell in (cell for row in table.rows for cell in row.cells.values()):
        match cell:
            case Value(Estimate(mean, low, high, n)) | Ranged(Estimate(mean, low, high, n)):
                yield from (x for x in (mean, low, high, float(n)) if x is not None)
            case PValue(number) | Quantity(number):
                yield number


NAMES = ("emoji", "caltech101", "dtd")


def by_name(builder: Any, metric: str | None = None) -> dict[str, Table]:
    """The study's tables."""
    return {table.name: table for table in build_tables(builder.study(), metric)}


def two_by_two() -> StoreBuilder:
    """Two methods on two datasets, two seeds, every number written out."""
    factors = [
        *one_factor("dataset", ["a", "b"], "a"), *one_factor("generator", ["none", "vae"], "none")
    ]  # fmt: skip
    builder = StoreBuilder(name="hand", factors=factors, seeds=(0, 1))
    numbers = {  # (base, new) of seeds 0 and 1
        ("a", "none"): ((90.0, 30.0), (88.0, 34.0)), ("b", "none"): ((50.0, 70.0), (52.0, 66.0)),
        ("a", "vae"): ((90.0, 40.0), (86.0, 42.0)), ("b", "vae"): ((48.0, 70.0), (50.0, 72.0)),
    }  # fmt: skip
    for (dataset, generator), pairs in numbers.items():
        results = {seed: scores(new, base) for seed, (base, new) in enumerate(pairs)}
        builder.trial({"dataset": dataset, "generator": generator}, results)
    return builder
