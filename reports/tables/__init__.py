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
    find_best_configurations,
    find_ties,
    get_selection_rules,
    make_headline,
    rank_configurations,
)
from reports.tables.build import build_tables
from reports.tables.controls import find_controls_by_configuration, get_factors_of_control
from reports.tables.external_file import add_external_results
from reports.tables.families import (
    get_first_family,
    list_families,
    make_families_of_runs,
    make_method_family,
)
from reports.tables.family import Family
from reports.tables.group import Group, mean
from reports.tables.groups import (
    MAX_MAGNITUDE,
    MAX_SHOWN_LEVELS,
    as_numbers,
    find_baseline_configuration_group,
    format_group_name,
    group_all_rows,
    join_rules,
    make_configuration_groups,
    make_control_groups,
    make_label_columns,
    make_level_groups,
    select_configuration_rows,
    shorten_factor_names,
    sort_levels,
)
from reports.tables.metric import (
    MEASURES,
    compute_interval,
    get_decimals,
    get_smallest_effect,
    is_percent,
    list_other_metrics,
    resolve_metric,
)
from reports.tables.over_classes import count_correct_predictions
from reports.tables.over_datasets import (
    DATASET,
    average_over_datasets,
    find_factors_that_change_test_classes,
    get_dataset_of_controls,
    list_datasets,
    restrict_to_dataset,
)
from reports.tables.paired import (
    PairedStudies,
    format_differences,
    make_paired_table,
    pair_averages,
    pair_studies,
)
from reports.tables.published import make_published_table
from reports.tables.run_descriptions import describe_run_differences
