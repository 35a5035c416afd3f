"""Rows of a frame as tables: means with intervals, paired differences, notes.

Answers for: what enters a mean, what is compared with what, and every footnote that a table
owes its reader. Knows no output format.
"""

from reports.tables.build import build_tables
from reports.tables.formatting import PLAIN, STACKED, Dialect, broken, cell_text, value_parts
from reports.tables.groups import (
    MOST_LEVELS,
    Group,
    arm_groups,
    baseline_setting,
    by_seed,
    factor_labels,
    is_numeric,
    level_groups,
    matched,
    ordered_levels,
    setting_groups,
    short_name,
    spelled,
)
from reports.tables.metric import decimals_of, interval_of, with_metric
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
    level_id,
    level_text,
)
from reports.tables.notes import chosen_by, head_notes, on_test, titled, unfinished_notes
from reports.tables.pooling import averaged, dataset_factor

__all__ = [
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
    "PValue",
    "Quantity",
    "Ranged",
    "Row",
    "Table",
    "Text",
    "Value",
    "arm_groups",
    "averaged",
    "baseline_setting",
    "broken",
    "build_tables",
    "by_seed",
    "cell_text",
    "chosen_by",
    "dataset_factor",
    "decimals_of",
    "factor_labels",
    "head_notes",
    "interval_of",
    "is_numeric",
    "level_groups",
    "level_id",
    "level_text",
    "matched",
    "on_test",
    "ordered_levels",
    "setting_groups",
    "short_name",
    "spelled",
    "titled",
    "unfinished_notes",
    "value_parts",
    "with_metric",
]
