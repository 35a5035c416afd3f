"""Load a study's YAML as a typed StudyConfig, and find every mistake before anything runs.

Responsible for keys, levels and ranges, for what can be combined, and for the configurations that a
space spans. Independent of the store, Ray and the clock.
"""

from harness.config.defaults import BACKBONE, backbone_defaults
from harness.config.factor import Factor, assignments, same
from harness.config.load import load_plugins, load_study, require_list
from harness.config.mapping import parse_overrides
from harness.config.resolved import resolved_yaml
from harness.config.space import (
    baseline,
    belongs,
    control_at,
    grid,
    levels,
    optuna_params,
    resolve,
    resolved_controls,
    suggest,
    value_of,
)
from harness.config.study_config import (
    SAMPLERS,
    SCHEDULERS,
    SELECTIONS,
    STUDY_KEYS,
    AshaScheduler,
    Log,
    Resources,
    StudyConfig,
)
