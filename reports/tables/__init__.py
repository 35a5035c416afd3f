"""Rows of a frame as tables: means with intervals, paired differences, notes.

Answers for: what enters a mean, what is compared with what, and every footnote that a table
owes its reader. Knows no output format.
"""

from reports.tables.added import added_notes, is_added, without_added
from reports.tables.build import build_tables
from reports.tables.changes import change_lines
from reports.tables.datasets import AVERAGE
from reports.tables.families import Family, Paired, differences, load_families, load_values
from reports.tables.flags import collapse_of
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
    baseline_setting,
    by_seed,
    factor_labels,
    is_numeric,
    level_groups,
    matched,
    ordered_levels,
    setting_groups,
    short_name,
    short_names,
    spelled,
)
from reports.tables.headline import Headline, headline
from reports.tables.metric import decimals_of, interval_of, is_percent, with_metric
from reports.tables.model import (
    ADDED,
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
    level_id,
    level_text,
    spelled_row,
)
from reports.tables.notes import (
    FEWEST_SEEDS,
    chosen_by,
    head_notes,
    on_test,
    titled,
    unfinished_notes,
)
from reports.tables.pooling import arms_dataset, averaged, dataset_factor
from reports.tables.preference import by_preference, tied_first, tied_names
from reports.tables.published import PUBLISHED, published_table
from reports.tables.quality_measures import MEASURES
from reports.tables.quality_response import APART, on_other_classes
from reports.tables.stopped import given_out, is_designed

__all__ = [
    "ADDED",
    "APART",
    "AVERAGE",
    "FEWEST_SEEDS",
    "LEVELS",
    "MARK",
    "MEASURES",
    "MOST_LEVELS",
    "PLAIN",
    "PUBLISHED",
    "STACKED",
    "Cell",
    "Column",
    "Counts",
    "Dialect",
    "Family",
    "Flagged",
    "Group",
    "Headline",
    "PValue",
    "Paired",
    "Quantity",
    "Ranged",
    "Row",
    "Table",
    "Text",
    "Value",
    "added_notes",
    "arm_groups",
    "arms_dataset",
    "averaged",
    "baseline_setting",
    "broken",
    "build_tables",
    "by_preference",
    "by_seed",
    "cell_text",
    "change_lines",
    "chosen_by",
    "collapse_of",
    "dataset_factor",
    "decimals_of",
    "differences",
    "factor_labels",
    "given_out",
    "head_notes",
    "headline",
    "interval_of",
    "is_added",
    "is_designed",
    "is_numeric",
    "is_percent",
    "level_groups",
    "level_id",
    "level_text",
    "load_families",
    "load_values",
    "matched",
    "number",
    "on_other_classes",
    "on_test",
    "ordered_levels",
    "p_text",
    "published_table",
    "setting_groups",
    "short_name",
    "short_names",
    "spelled",
    "spelled_row",
    "tied_first",
    "tied_names",
    "titled",
    "unfinished_notes",
    "value_parts",
    "with_metric",
    "without_added",
]
