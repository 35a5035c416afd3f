"""Compare each configuration with the controls at its own levels.

A control reads only some factors: the fine-tuner alone, for example, does not read those of the
generator. A configuration is compared with the control that has the same levels of all factors that
the control reads, because a control with, e.g., another learning rate would not be comparable.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.store import control_levels, level_id
from reports.cells import level_text
from reports.stats import Compared, compare_paired
from reports.study import Study
from reports.tables.group import Group, mean
from reports.tables.groups import short_names
from reports.tables.metric import decimals_of


def controls_by_configuration(study: Study, control: str) -> dict[str, Group]:
    """Return the control at each configuration's levels, by the key of the configuration.

    Configurations without such a control, and those that equal the control, are left out.

    Args:
        study: A study with a single dataset.
        control: "no_synthetic" or "text_feature".

    Returns:
        Groups by configuration key. The `value` of a group is the mapping of the control's levels.
    """
    baselines = {factor.key: factor.baseline for factor in study.factors}
    by_levels = {
        _levels_id(configuration.assignment): configuration.key
        for configuration in study.configurations
        if configuration.control == control
    }
    controls: dict[str, Group] = {}
    for configuration in study.non_controls:
        levels = control_levels(control, configuration.assignment)
        key = by_levels.get(_levels_id(levels))
        baseline_levels = {name: baselines.get(name) for name in levels}
        if key is None and _levels_id(levels) == _levels_id(baseline_levels):
            # the levels of a control at the baseline are not stored
            key = by_levels.get(_levels_id({}))
        if key is not None and key != configuration.key:
            controls[configuration.key] = Group(
                (), study.by_configuration[key], control=control, value=levels
            )
    return controls


def _average_by_seed(values: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Return the mean of each seed's values."""
    return {seed: mean(results) for seed, results in values.items()}


def _levels_id(levels: Mapping[str, Any]) -> str:
    """Return a text that identifies the levels of several factors."""
    return json.dumps({key: level_id(level) for key, level in levels.items()}, sort_keys=True)


def factors_of_control(study: Study, control: str) -> list[str]:
    """Return the keys of a study's factors that a control reads."""
    return [*control_levels(control, {factor.key: None for factor in study.factors})]


def shared_levels(study: Study, controls: Mapping[str, Group], group: Group) -> str:
    """Return the levels that all controls of a row share, as text such as "lr 0.01, shots 4".

    Args:
        study: A study with a single dataset.
        controls: The controls by configuration key; see controls_by_configuration.
        group: Group of the row.
    """
    names = short_names(study)
    levels = [controls[key].value for key in group.config_keys if key in controls]
    return ", ".join(
        f"{names[key]} {level_text(level)}"
        for key, level in (levels[0].items() if levels else ())
        if all(level_id(level) == level_id(other_levels.get(key)) for other_levels in levels)
    )


def compare_with_control(
    study: Study, metric: str, controls: Mapping[str, Group], groups: Sequence[Group]
) -> Compared | None:
    """Compare configurations with the controls at their levels, paired by seed.

    A seed's value is the mean over the configurations that, like their control, finished under that
    seed.

    Args:
        study: A study with a single dataset.
        metric: Name of a test metric.
        controls: The controls by configuration key; see controls_by_configuration.
        groups: Groups of the configurations.

    Returns:
        The comparison, without a verdict. None if no configuration shares a seed with a control at
        its levels.
    """
    column = f"test/{metric}"
    values: dict[int, list[float]] = {}
    control_values: dict[int, list[float]] = {}
    for row in (row for group in groups for row in group.finished_rows):
        control, seed = controls.get(row["config_key"]), row["seed"]
        results = control.values_by_seed(column) if control else {}
        if row.get(column) is not None and seed in results:
            values.setdefault(seed, []).append(row[column])
            control_values.setdefault(seed, []).append(results[seed])
    comparison = compare_paired(_average_by_seed(values), _average_by_seed(control_values))
    if comparison is None:
        return None
    return dataclasses.replace(comparison, decimals=decimals_of(study, metric))
