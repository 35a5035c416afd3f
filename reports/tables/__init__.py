"""Rows of a frame as tables: means with intervals, paired differences, notes.

Answers for: what enters a mean, what is compared with what, and every footnote that a table
owes its reader. Knows no output format.
"""

from reports.tables.build import build_tables
from reports.tables.families import Family, Paired, load_families, load_values
from reports.tables.formatting import PLAIN, STACKED, Dialect, broken, cell_text, value_parts
from reports.tables.groups import (
    MOST_LEVELS,
    Group,
    arm_groups,
    by_seed,
    is_numeric,
    level_groups,
    matched,
    short_name,
)
from reports.tables.metric import interval_of, with_metric
from reports.tables.model import (
    MARK,
    Cell,
    Column,
    Counts,
    Flagged,
    PValue,
    Quantity,
    Ranged,
    Row,
    Table,
    Text,
    Value,
    level_text,
)
from reports.tables.notes import chosen_by, on_test
from reports.tables.pooling import averaged, dataset_factor
from reports.tables.stopped import given_out

__all__ = [
    "MARK",
    "MOST_LEVELS",
    "PLAIN",
    "STACKED",
    "Cell",
    "Column",
    "Counts",
    "Dialect",
    "Family",
    "Flagged",
    "Group",
    "PValue",
    "Paired",
    "Quantity",
    "Ranged",
    "Row",
    "Table",
    "Text",
    "Value",
    "arm_groups",
    "averaged",
    "broken",
    "build_tables",
    "by_seed",
    "cell_text",
    "chosen_by",
    "dataset_factor",
    "given_out",
    "interval_of",
    "is_numeric",
    "level_groups",
    "level_text",
    "load_families",
    "load_values",
    "matched",
    "on_test",
    "short_name",
    "value_parts",
    "with_metric",
]
