"""Rows of a frame as tables: means with intervals, paired differences, notes.

Answers for: what enters a mean, what is compared with what, and every footnote that a table
owes its reader. Knows no output format.
"""

from reports.tables.build import build_tables
from reports.tables.datasets import AVERAGE
from reports.tables.formatting import (
    PLAIN,
    STACKED,
    Dialect,
    broken,
    cell_text,
    number,
    p_text,
    value_parts,
)
from reports.tables.groups import (
    MOST_LEVELS,
    Group,
    arm_groups,
    by_seed,
    factor_labels,
    is_numeric,
    level_groups,
    matched,
    setting_groups,
    short_name,
    spelled,
)
from reports.tables.headline import Headline, headline
from reports.tables.metric import interval_of, is_percent, with_metric
from reports.tables.model import (
    LEVELS,
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
    spelled_row,
)
from reports.tables.notes import FEWEST_SEEDS, chosen_by, on_test
from reports.tables.pooling import averaged, dataset_factor
from reports.tables.quality_response import APART

__all__ = [
    "APART",
    "AVERAGE",
    "FEWEST_SEEDS",
    "LEVELS",
    "MARK",
    "MOST_LEVELS",
    "PLAIN",
    "STACKED",
    "Cell",
    "Column",
    "Counts",
    "Dialect",
    "Flagged",
    "Group",
    "Headline",
    "PValue",
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
    "factor_labels",
    "headline",
    "interval_of",
    "is_numeric",
    "is_percent",
    "level_groups",
    "level_text",
    "matched",
    "number",
    "on_test",
    "p_text",
    "setting_groups",
    "short_name",
    "spelled",
    "spelled_row",
    "value_parts",
    "with_metric",
]
