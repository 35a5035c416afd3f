"""Rows and cells of tables, picked out by name."""

from collections.abc import Iterator
from typing import Any

from reports.cells import PValue, Quantity, Ranged, Row, Table, Text, Value
from reports.stats import Estimate
from reports.tables.build import build_tables


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
