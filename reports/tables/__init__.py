"""Tables of a study: means with intervals, paired differences, and notes.

This package decides which rows enter a mean, which groups of rows are compared, and which notes a
table needs. Tables are independent of the output format; see reports.render.
"""

from reports.tables.annotated_tables import (
    list_test_image_rules,
    make_plain_table,
    uses_test_images,
)
from reports.tables.best_config import (
    best_configurations,
    find_ties,
    make_headline,
    rank_configurations,
    selection_rules,
)
from reports.tables.build import build_tables
from reports.tables.controls import controls_by_configuration, factors_of_control
from reports.tables.external_file import with_external
from reports.tables.families import families_of_runs, first_family, list_families, method_family
from reports.tables.family import Family
from reports.tables.group import Group, mean
from reports.tables.groups import (
    MAX_MAGNITUDE,
    MAX_SHOWN_LEVELS,
    as_numbers,
    configuration_groups,
    configuration_rows,
    control_groups,
    factor_labels,
    find_baseline_configuration_group,
    group_all_rows,
    join_rules,
    level_groups,
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
    resolve_metric,
)
from reports.tables.over_classes import count_correct_answers
from reports.tables.over_datasets import (
    DATASET,
    average_over_datasets,
    dataset_of_controls,
    factors_that_change_test_classes,
    list_datasets,
    restrict_to_dataset,
)
from reports.tables.paired import (
    PairedStudies,
    differences_text,
    pair_averages,
    pair_studies,
    paired_table,
)
from reports.tables.published import published_table
from reports.tables.run_descriptions import run_differences
