"""Tables of a study: means with intervals, paired differences, and notes.

This package decides which rows enter a mean, what is compared with what, and which notes a table
needs. It knows no output format.
"""

from reports.tables.best_config import (
    best_configurations,
    headline,
    rank_configurations,
    selection_rules,
    tied_with_first,
)
from reports.tables.build import build_tables
from reports.tables.controls import controls_by_configuration, levels_of_control
from reports.tables.families import (
    Family,
    families,
    families_of_runs,
    first_family,
    method_family,
)
from reports.tables.groups import (
    MAX_SHOWN_LEVELS,
    MAX_VALUE,
    Group,
    all_rows,
    as_numbers,
    baseline_configuration,
    configuration_groups,
    configuration_rows,
    control_groups,
    factor_labels,
    join_rules,
    level_groups,
    mean,
    ordered_levels,
    row_text,
    short_names,
)
from reports.tables.metric import (
    MEASURES,
    decimals_of,
    effect_of,
    interval_of,
    is_percent,
    other_metrics,
    with_metric,
)
from reports.tables.notes import on_test, plain_table
from reports.tables.over_classes import right_answers
from reports.tables.paired import (
    PairedStudies,
    average_pairs,
    differences_text,
    pair_studies,
    paired_table,
)
from reports.tables.pairing import Pair
from reports.tables.pooling import (
    DATASET,
    average_over_datasets,
    class_factors,
    controls_dataset,
    datasets,
    one_dataset,
)
from reports.tables.published import published_table
from reports.tables.run_descriptions import run_differences
