"""Rows of a frame as tables: means with intervals, paired differences, notes.

Answers for: what enters a mean, what is compared with what, and every footnote that a table
owes its reader. Knows no output format.
"""

from reports.tables.associations import class_factors, on_other_classes
from reports.tables.build import build_tables
from reports.tables.comparison import differences, effect_of, given_out, is_designed
from reports.tables.families import Family, families, load_families, load_values
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
    APART,
    MOST_LEVELS,
    Group,
    arm_groups,
    baseline_setting,
    factor_labels,
    is_numeric,
    level_groups,
    ordered_levels,
    setting_groups,
    short_name,
    short_names,
    spelled,
)
from reports.tables.headline import Headline, change_lines, headline
from reports.tables.metric import MEASURES, decimals_of, interval_of, is_percent, with_metric
from reports.tables.model import (
    ADDED,
    AVERAGE,
    LEVELS,
    MARK,
    OBJECTIVE,
    Cell,
    Column,
    Compared,
    Counts,
    Legend,
    PValue,
    Quantity,
    Ranged,
    Ranked,
    Row,
    Table,
    Text,
    Value,
    level_id,
    level_text,
)
from reports.tables.notes import FEWEST_SEEDS, collapse_of, noted_table
from reports.tables.pooling import arms_dataset, averaged, dataset_factor
from reports.tables.preference import (
    added_notes,
    by_preference,
    tied_first,
    tied_names,
    without_added,
)
from reports.tables.published import PUBLISHED, published_table
from reports.tables.rows import chosen_by, on_test, plain_rows
