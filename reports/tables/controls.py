"""Compare each configuration with the controls at its own levels.

A configuration that differs from the baseline in, say, the fine-tuner's learning rate cannot be
compared fairly with a control at the baseline learning rate. Each configuration is therefore
compared with the control that has the same levels of all factors that the control reads.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.store import control_levels, make_level_id
from reports.cells import format_level
from reports.stats import Compared, compare_paired
from reports.study import Study
from reports.tables.group import Group, mean
from reports.tables.groups import shorten_factor_names
from reports.tables.metric import get_decimals


def find_controls_by_configuration(study: Study, control: str) -> dict[str, Group]:
    """Return the control that has each configuration's levels, by config_key of the configuration.

    Configurations without such a control have no entry, and neither have configurations that are
    the same as their control. `Group.value` has the levels of the factors that the control reads.

    Args:
        study: A study with a single dataset.
        control: Name of a competing control: "no_synthetic" or "text_feature".
    """
    baselines = {factor.key: factor.baseline for factor in study.factors}
    keys_by_levels = {
        _make_levels_id(configuration.assignment): configuration.key
        for configuration in study.configurations
        if configuration.control == control
    }
    controls: dict[str, Group] = {}
    for configuration in study.non_controls:
        levels = control_levels(control, configuration.assignment)
        key = keys_by_levels.get(_make_levels_id(levels))
        baseline_levels = {name: baselines.get(name) for name in levels}
        if key is None and _make_levels_id(levels) == _make_levels_id(baseline_levels):
            # the store has a control at the baseline with an empty assignment
            key = keys_by_levels.get(_make_levels_id({}))
        if key is not None and key != configuration.key:
            controls[configuration.key] = Group(
                (), study.by_configuration[key], control=control, value=levels
            )
    return controls


def _average_by_seed(values: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Return the mean of the values of each seed."""
    return {seed: mean(results) for seed, results in values.items()}


def _make_levels_id(levels: Mapping[str, Any]) -> str:
    """Return a text that identifies levels by factor, whatever the order of the factors."""
    return json.dumps({key: make_level_id(level) for key, level in levels.items()}, sort_keys=True)


def get_factors_of_control(study: Study, control: str) -> list[str]:
    """Return the keys of the study's factors that affect a competing control."""
    return [*control_levels(control, {factor.key: None for factor in study.factors})]


def format_shared_levels(study: Study, controls: Mapping[str, Group], group: Group) -> str:
    """Return the levels that all controls of a row have in common as text: "lr 0.01, shots 4".

    Args:
        study: A study with a single dataset.
        controls: The controls by config_key; see find_controls_by_configuration.
        group: Group of the row.

    Returns:
        "" if the row has no control, or if its controls have no level in common.
    """
    names = shorten_factor_names(study)
    levels_by_control = [controls[key].value for key in group.config_keys if key in controls]
    if not levels_by_control:
        return ""
    return ", ".join(
        f"{names[key]} {format_level(level)}"
        for key, level in levels_by_control[0].items()
        if all(
            make_level_id(level) == make_level_id(levels.get(key)) for levels in levels_by_control
        )
    )


def compare_with_control(
    study: Study, metric: str, controls: Mapping[str, Group], groups: Sequence[Group]
) -> Compared | None:
    """Compare configurations with the controls that have their levels, paired by seed.

    A seed's value is the mean over the configurations that, like their control, finished under that
    seed.

    Args:
        study: A study with a single dataset.
        metric: Name of a test metric.
        controls: The controls by config_key; see find_controls_by_configuration.
        groups: Groups of the configurations.

    Returns:
        None if no configuration finished under a seed that its control also finished.
    """
    column = f"test/{metric}"
    rows = [row for group in groups for row in group.finished_rows if row.get(column) is not None]
    results_by_key = {
        key: controls[key].values_by_seed(column)
        for key in {row["config_key"] for row in rows}
        if key in controls
    }
    values: dict[int, list[float]] = {}
    control_values: dict[int, list[float]] = {}
    for row in rows:
        seed, control_results = row["seed"], results_by_key.get(row["config_key"], {})
        if seed in control_results:
            values.setdefault(seed, []).append(row[column])
            control_values.setdefault(seed, []).append(control_results[seed])
    comparison = compare_paired(_average_by_seed(values), _average_by_seed(control_values))
    if comparison is None:
        return None
    return dataclasses.replace(comparison, decimals=get_decimals(study, metric))
