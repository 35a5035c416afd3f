"""Load a study's YAML as a typed StudyConfig, and find every mistake before anything runs.

Responsible for validating keys, levels, ranges and their combinations, and for enumerating the
configurations of a space. Uses neither a store nor Ray nor the clock.
"""

from harness.config.defaults import BACKBONE, load_defaults
from harness.config.factor import Factor, are_equal, iter_assignments
from harness.config.load import load_plugins, load_study, require_list
from harness.config.mapping import parse_overrides
from harness.config.resolved_yaml import format_resolved_yaml
from harness.config.space import (
    belongs,
    enumerate_grid,
    get_value,
    list_levels,
    make_baseline,
    make_control,
    make_optuna_params,
    resolve,
    resolve_controls,
    suggest,
)
from harness.config.study_config import (
    MAX_SEEDS,
    SAMPLERS,
    SCHEDULERS,
    SELECTIONS,
    STUDY_KEYS,
    AshaScheduler,
    Log,
    Resources,
    StudyConfig,
)
