"""Find tables, rows and numbers by name."""

from collections.abc import Iterator
from typing import Any

from reports.cells import PValue, Quantity, Ranged, Row, Table, Text, Value
from reports.stats import Estimate
from reports.tables.build import build_tables


def find_row(table: Table, label: str) -> Row:
    """Return the row with this text in its first column."""
    return next(row for row in table.rows if row.cells[table.columns[0].key] == Text(label))


def iterate_numbers(table: Table) -> Iterator[float]:
    """Yield every number in a table's cells."""
    for cell in (cell for row in table.rows for cell in row.cells.values()):
        match cell:
            case Value(Estimate(mean, low, high, n)) | Ranged(Estimate(mean, low, high, n)):
                yield from (value for value in (mean, low, high, float(n)) if value is not None)
            case PValue(number) | Quantity(number):
                yield number


DATASETS = ("emoji", "caltech101", "dtd")


def build_tables_by_name(builder: Any, metric: str | None = None) -> dict[str, Table]:
    """Return the tables of a study by name."""
    return {table.name: table for table in build_tables(builder.make_study(), metric)}
