"""Groups of a study's rows by level, configuration or control, and their labels."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import polars as pl

from harness.store import CONTROLS, ConfigurationRecord, FactorRecord, make_level_id
from reports.cells import Column, Text, format_level
from reports.formatting import DASH
from reports.study import Study
from reports.tables.group import Group

# A factor with more distinct levels than this gets no table of its levels: it counts as a range.
MAX_SHOWN_LEVELS = 12

# Analyses skip values with a magnitude above this, because sums of their squares could overflow.
MAX_MAGNITUDE = 1e100


def sort_levels(study: Study, factor: FactorRecord) -> list[Any]:
    """Return the distinct levels in the study: numbers in ascending order, others as declared."""
    levels_by_id: dict[str, Any] = {}
    for configuration in _select_configurations_with(study, factor):
        level = configuration.assignment[factor.key]
        levels_by_id[make_level_id(level)] = level
    levels = list(levels_by_id.values())
    if is_numeric(levels):
        return sorted(levels)
    declared_ids = [make_level_id(level) for level in factor.levels or ()]
    positions = {declared_id: i for i, declared_id in enumerate(declared_ids)}

    def sort_key(level: Any) -> tuple[int, str]:
        # levels that are not declared are last
        return positions.get(make_level_id(level), len(positions)), format_level(level)

    return sorted(levels, key=sort_key)


def is_numeric(levels: Sequence[Any]) -> bool:
    """Return True if all levels are numbers; booleans do not count as numbers."""
    return all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)


def as_numbers(levels: Sequence[Any]) -> list[float] | None:
    """Return the levels as floats; None if any is not a number, is NaN or exceeds MAX_MAGNITUDE."""
    # the comparison is False for NaN
    is_valid = is_numeric(levels) and all(abs(level) <= MAX_MAGNITUDE for level in levels)
    return [float(level) for level in levels] if is_valid else None


def make_level_groups(study: Study, factor: FactorRecord) -> list[Group]:
    """Return one group per level, with the rows of all configurations that have the level."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for configuration in _select_configurations_with(study, factor):
        level_rows = study.by_configuration[configuration.key]
        rows.setdefault(make_level_id(configuration.assignment[factor.key]), []).extend(level_rows)
    return [
        Group((make_level_label(level),), rows[make_level_id(level)], value=level)
        for level in sort_levels(study, factor)
    ]


def _select_configurations_with(study: Study, factor: FactorRecord) -> list[ConfigurationRecord]:
    """Return the configurations, without controls, in which a factor is active."""
    return [
        configuration
        for configuration in study.non_controls
        if factor.key in configuration.assignment
    ]


# Cache of make_configuration_groups, which a dozen tables and charts of a study call.
_GROUPS_BY_STUDY: WeakKeyDictionary[Study, tuple[Group, ...]] = WeakKeyDictionary()


def make_configuration_groups(study: Study) -> tuple[Group, ...]:
    """Return one group per configuration, by descending mean selection score.

    Configurations without a score are last.
    """

    def sort_key(group: Group) -> float:
        score = group.mean(study.score_column)
        return inf if score is None else -score

    if study not in _GROUPS_BY_STUDY:
        groups = [
            Group(
                make_label_cells(study, configuration.assignment),
                study.by_configuration[configuration.key],
                value=configuration,
            )
            for configuration in study.non_controls
        ]
        _GROUPS_BY_STUDY[study] = tuple(sorted(groups, key=sort_key))
    return _GROUPS_BY_STUDY[study]


def make_label_cells(
    study: Study, assignment: Mapping[str, Any], fallback: str = "constants"
) -> tuple[Text, ...]:
    """Return the label cells of a configuration, one per factor.

    Factors that are not active have a dash.

    Args:
        study: Study with the factors.
        assignment: Levels of the active factors by dotted name.
        fallback: Text of the only cell if the study has no factors.
    """
    keys = [factor.key for factor in study.factors]
    labels = (
        make_level_label(assignment[key]) if key in assignment else Text(DASH) for key in keys
    )
    return tuple(labels) or (Text(fallback),)


def make_control_groups(study: Study) -> list[Group]:
    """Return one group per control at the baseline levels, in the order of CONTROLS."""
    keys = {
        configuration.control: configuration.key
        for configuration in study.configurations
        if configuration.control and not configuration.assignment
    }
    return [
        Group((Text(name),), study.by_configuration[keys[control]], control=control)
        for control, (name, _) in CONTROLS.items()
        if control in keys
    ]


def group_all_rows(study: Study) -> Group:
    """Return a group of all rows of a study."""
    return Group((), [row for rows in study.by_configuration.values() for row in rows])


def join_rules(rules: Iterable[str | None]) -> str:
    """Return the distinct selection rules in alphabetical order, joined by "+".

    Args:
        rules: Rule that selected the epoch of each row. None and "" are ignored.
    """
    return "+".join(sorted({rule for rule in rules if rule}))


def make_level_label(value: Any) -> Text:
    """Return the label cell of a level. Floats are rounded on a page, but not in CSV files."""
    return Text(format_level(value), repr(value) if isinstance(value, float) else "")


def select_rows(study: Study, keys: Sequence[str]) -> pl.DataFrame:
    """Return the rows of the configurations with the given keys."""
    return study.rows.filter(pl.col("config_key").is_in(list(keys)))


def select_configuration_rows(study: Study) -> pl.DataFrame:
    """Return the rows of all configurations except the controls."""
    return select_rows(study, [configuration.key for configuration in study.non_controls])


def find_baseline_level_group(factor: FactorRecord, groups: Sequence[Group]) -> Group | None:
    """Return the group of the factor's baseline level.

    Args:
        factor: The factor, whose declared baseline may be missing in the study.
        groups: Groups of the factor's levels.

    Returns:
        The first group if no group has the baseline level. None if there are no groups.
    """
    matches = [
        group for group in groups if make_level_id(group.value) == make_level_id(factor.baseline)
    ]
    return next(iter([*matches, *groups]), None)


def find_baseline_configuration_group(study: Study, groups: Sequence[Group]) -> Group | None:
    """Return the group of the configuration with all active factors at their baselines, or None."""
    baselines = {factor.key: make_level_id(factor.baseline) for factor in study.factors}
    for group in groups:
        levels = {key: make_level_id(value) for key, value in group.value.assignment.items()}
        if all(levels[key] == baselines[key] for key in levels.keys() & baselines.keys()):
            return group
    return None


def get_strata_by_configuration(study: Study, factor: FactorRecord) -> dict[str, str]:
    """Return the stratum of each configuration by config_key: the levels of the other factors.

    Levels of the factor are compared only within strata. Factors that are inactive in some
    configurations (`when:`) do not define strata, and results are averaged over them. Otherwise,
    some levels would have no stratum in common and could not be compared.

    Args:
        study: The study.
        factor: The factor whose levels are compared.
    """
    other_keys = [other_factor.key for other_factor in study.factors if other_factor != factor]
    always_active_keys = [
        key
        for key in other_keys
        if all(key in configuration.assignment for configuration in study.non_controls)
    ]
    return {
        configuration.key: json.dumps(
            [make_level_id(configuration.assignment[key]) for key in always_active_keys]
        )
        for configuration in study.non_controls
    }


def shorten_factor_names(study: Study) -> dict[str, str]:
    """Return the name of each factor in tables and charts, by factor key.

    The name is the last part of the dotted key. If several factors have the same last part, their
    names are the whole keys.
    """
    last_parts = {factor.key: factor.key.rpartition(".")[2] for factor in study.factors}
    factors_per_name = Counter(last_parts.values())
    return {key: name if factors_per_name[name] == 1 else key for key, name in last_parts.items()}


def make_label_columns(study: Study) -> list[Column]:
    """Return the label columns: one per factor, or "configuration" if there are no factors."""
    names = [Column(key, name, align="left") for key, name in shorten_factor_names(study).items()]
    return names or [Column("configuration", "configuration", align="left")]


def format_group_name(group: Group, columns: Sequence[Column], separator: str = ", ") -> str:
    """Return the name of a group in sentences, such as "n_ctx 4, shots 16".

    Args:
        group: The group.
        columns: Label columns of the group's table; see make_label_columns.
        separator: Text between factors.

    Returns:
        Headings and levels of the active factors. For a control, its label. "" if the study has no
        factors.
    """
    if group.control:
        return group.labels[0].text
    columns_and_labels = zip(columns, group.labels, strict=False)
    return separator.join(
        f"{column.heading} {label.text}"
        for column, label in columns_and_labels
        if column.key != "configuration" and label.text != DASH
    )
