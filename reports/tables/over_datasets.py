"""Views of a study over several datasets: one dataset, its methods, or averages over datasets.

A method is a combination of levels of all factors other than the dataset.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from harness.store import (
    COMPLETE,
    FAIL,
    MISSING,
    PRUNED,
    SEPARATE_FACTORS,
    ConfigurationRecord,
    FactorRecord,
    make_level_id,
)
from reports.cells import Text, format_level
from reports.study import ExternalResults, Study, make_study_frame
from reports.tables.group import Group
from reports.tables.groups import join_rules, make_label_cells, select_rows, sort_levels

DATASET = "dataset"
_COST_COLUMNS = ("seconds", "text_tokens", "peak_memory_mb")


def list_datasets(study: Study) -> list[str]:
    """Return the datasets of a grid over at least two datasets, in order; [] for other studies."""
    dataset_factors = [
        factor for factor in study.factors if factor.key == DATASET and study.sampler == "grid"
    ]
    datasets = [
        format_level(level) for factor in dataset_factors for level in sort_levels(study, factor)
    ]
    return datasets if len(datasets) > 1 else []


def get_factors_without_dataset(study: Study) -> tuple[FactorRecord, ...]:
    """Return the factors of a study other than the dataset."""
    return tuple(factor for factor in study.factors if factor.key != DATASET)


def get_dataset_of_controls(study: Study) -> str:
    """Return the dataset on which the controls ran.

    This is the baseline of the factor `dataset`, or the first dataset if the study no longer has
    the baseline.

    Args:
        study: Study over several datasets; see list_datasets.
    """
    datasets = list_datasets(study)
    baselines = [format_level(factor.baseline) for factor in study.factors if factor.key == DATASET]
    return next(dataset for dataset in (*baselines, *datasets) if dataset in datasets)


def find_factors_that_change_test_classes(study: Study) -> list[FactorRecord]:
    """Return the factors whose levels are tested on different classes.

    This includes `max_classes`. Unlike levels of SEPARATE_FACTORS, its levels have comparisons in
    tables, but no best one is selected, because fewer classes are easier.
    """
    return [factor for factor in study.factors if factor.key in (*SEPARATE_FACTORS, "max_classes")]


def list_methods(study: Study) -> list[ConfigurationRecord]:
    """Return a record per method, in the order of the levels.

    A record's `key` is not in the store ("average 0"). Its `assignment` lacks the dataset. Its
    `parts` maps each dataset to the config_key of the method on it, in the order of the datasets.
    """
    # sorted by False and True: the dataset is the last factor, so that it varies fastest
    positions_by_factor = {
        factor.key: {make_level_id(level): i for i, level in enumerate(sort_levels(study, factor))}
        for factor in sorted(study.factors, key=lambda factor: factor.key == DATASET)
    }

    def sort_key(configuration: ConfigurationRecord) -> list[int]:
        levels = configuration.assignment
        return [
            positions[make_level_id(levels[key])] if key in levels else -1
            for key, positions in positions_by_factor.items()
        ]

    methods: dict[str, ConfigurationRecord] = {}  # by make_level_id of the assignment
    configurations = (
        configuration for configuration in study.non_controls if DATASET in configuration.assignment
    )
    for configuration in sorted(configurations, key=sort_key):
        other_levels = {
            key: value for key, value in configuration.assignment.items() if key != DATASET
        }
        method = methods.get(
            make_level_id(other_levels),
            ConfigurationRecord(f"average {len(methods)}", other_levels, ""),
        )
        parts = {**method.parts, format_level(configuration.assignment[DATASET]): configuration.key}
        methods[make_level_id(other_levels)] = dataclasses.replace(method, parts=parts)
    return list(methods.values())


def restrict_to_dataset(study: Study, dataset: str) -> Study:
    """Return the part of a study that ran on a dataset, including controls if they ran on it."""
    is_dataset_of_controls = dataset == get_dataset_of_controls(study)
    configurations = []
    for configuration in study.configurations:
        levels = dict(configuration.assignment)
        is_on_dataset = format_level(levels.pop(DATASET, None)) == dataset
        is_included = is_dataset_of_controls if configuration.control else is_on_dataset
        if is_included:
            configurations.append(dataclasses.replace(configuration, assignment=levels))
    return dataclasses.replace(
        study,
        rows=select_rows(study, [configuration.key for configuration in configurations]),
        factors=get_factors_without_dataset(study),
        configurations=tuple(configurations),
        constants={**study.constants, DATASET: dataset},
        # both numbers are known only for the whole study
        n_left_out=0,
        reused={},
        scope=dataset,
        external=ExternalResults(study.external.file, {"": study.external.values.get(dataset, {})}),
    )


def average_over_datasets(study: Study, datasets: Sequence[str] = ()) -> Study | None:
    """Return a study whose rows are averages over datasets: one row per method and seed.

    A study that is not over several datasets is returned unchanged.

    Args:
        study: Study read from the store.
        datasets: Datasets to average over. () for all datasets of the study.

    Returns:
        The averages, without controls, which ran on a single dataset. None if no method is planned
        on all of the datasets.
    """
    datasets = datasets or list_datasets(study)
    if not datasets:
        return study
    complete_methods = [
        _restrict_method(method, datasets)
        for method in list_methods(study)
        if {*datasets} <= {*method.parts}
    ]
    if not complete_methods:
        return None
    rows = [
        row
        for method in complete_methods
        for row in average_rows(study, method.key, _group_by_dataset(study, method))
    ]
    factors = get_factors_without_dataset(study)
    # the notes of the averages repeat the study's numbers of left out and reused results
    return dataclasses.replace(
        study,
        rows=make_study_frame(rows, factors, complete_methods, tuple(study.protocol.headings)),
        factors=factors,
        configurations=tuple(complete_methods),
        scope=f"average over {len(datasets)} datasets",
        pooled_datasets=tuple(datasets),
    )


def _group_by_dataset(study: Study, method: ConfigurationRecord) -> dict[str, Group]:
    """Return a method's rows as one group per dataset, by dataset."""
    return {
        dataset: Group((), study.by_configuration[key]) for dataset, key in method.parts.items()
    }


def average_rows(study: Study, key: str, parts: Mapping[str, Group]) -> list[dict[str, Any]]:
    """Return a method's averages over its datasets, one row per seed.

    Args:
        study: Study of the method.
        key: Value of `config_key` in the rows.
        parts: Groups of the method by dataset.
    """
    rows_by_seed: dict[int, dict[str, Mapping[str, Any]]] = {}  # seed -> dataset -> row
    for dataset, part in parts.items():
        for row in part.rows:
            rows_by_seed.setdefault(row["seed"], {})[dataset] = row
    return [_average_row(study, key, len(parts), rows) for _, rows in sorted(rows_by_seed.items())]


def _average_row(
    study: Study, key: str, n_datasets: int, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the average over datasets of a method's rows under one seed.

    If the seed finished on all datasets, the state is COMPLETE. A metric that any dataset lacks is
    then None, and a harmonic mean is computed from the averages of the two metrics that it
    combines. Otherwise, all metrics are None, and the state is FAIL if the seed failed on any
    dataset, else PRUNED if it was pruned on any, else MISSING. Flags are not averaged.

    Args:
        study: Study of the method.
        key: Value of `config_key` in the row.
        n_datasets: Number of datasets to average over.
        rows: Rows of the seed by dataset.
    """
    group = Group((), [*rows.values()])
    first_row, states = group.rows[0], group.column("state")
    # all rows of a study have the same columns
    numeric_columns = [
        name
        for name in first_row
        if name in _COST_COLUMNS or name.startswith(("test/", "selection/"))
    ]
    average = {
        **dict.fromkeys(numeric_columns),
        "config_key": key,
        "seed": first_row["seed"],
        "control": "",
        "protocol": first_row["protocol"],
        "selection": join_rules(group.column("selection")),
        "state": next((state for state in (FAIL, PRUNED) if state in states), MISSING),
    }
    if len(group.finished_rows) < n_datasets:
        failure_reasons = {
            name: row["reason"] for name, row in rows.items() if row["state"] == FAIL
        }
        reasons = (f"{name}: {reason}" for name, reason in failure_reasons.items() if reason)
        return {**average, "reason": next(reasons, None)}
    values_by_column = {name: group.finished_values(name) for name in numeric_columns}
    average |= {
        name: fmean(values) for name, values in values_by_column.items() if len(values) == len(rows)
    }
    for split, (name, halves) in product(("test", "selection"), study.protocol.halves.items()):
        average[f"{split}/{name}"] = _harmonic_mean(
            *(average.get(f"{split}/{half}") for half in halves)
        )
    return {**average, "state": COMPLETE}


def _harmonic_mean(first: float | None, second: float | None) -> float | None:
    """Return the harmonic mean of two accuracies; None if one of them is unknown, 0 if both are 0.

    It is applied to averages over datasets. As in the base-to-new tables of CoOp
    (arXiv:2109.01134), the average H is 2BN/(B+N) of the mean B and the mean N, not the mean of H.
    """
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def make_method_groups(study: Study) -> list[Group]:
    """Return a group per method, with its averages over datasets; see make_method_group.

    Args:
        study: Study over several datasets.
    """
    without_dataset = dataclasses.replace(study, factors=get_factors_without_dataset(study))
    component_names = [
        study.constants.get(f"{component}.name", "") for component in ("finetuner", "generator")
    ]
    method_name = " + ".join(name for name in component_names if name not in ("", "none", "null"))
    groups = []
    for method in list_methods(study):
        labels = make_label_cells(without_dataset, method.assignment, method_name or "constants")
        parts = _group_by_dataset(study, method)
        groups.append(make_method_group(study, labels, method.key, parts, value=method))
    return groups


def make_method_group(
    study: Study, labels: tuple[Text, ...], key: str, parts: Mapping[str, Group], **options: Any
) -> Group:
    """Return the group of a method, whose rows are averages over datasets.

    The averages are over the datasets on which the method has finished rows. If there are none,
    each row has a state other than COMPLETE, and no metrics.

    Args:
        study: Study over several datasets.
        labels: Texts of the label columns.
        key: Value of `config_key` in the rows.
        parts: Groups of the method by dataset.
        options: Other attributes of the group.
    """
    finished_parts = {name: part for name, part in parts.items() if part.finished_rows}
    rows = average_rows(study, key, finished_parts or parts)
    return Group(labels, rows, parts=parts, **options)


def _restrict_method(method: ConfigurationRecord, datasets: Iterable[str]) -> ConfigurationRecord:
    """Return the record of a method with only the given datasets in its `parts`."""
    parts = {dataset: method.parts[dataset] for dataset in datasets}
    return dataclasses.replace(method, parts=parts)


def restrict_to_common_datasets(
    study: Study, group: Group, baseline: Group
) -> tuple[Group, Group] | None:
    """Restrict a method and the baseline to the datasets on which both have finished rows.

    Args:
        study: Study over several datasets.
        group: Group of the method.
        baseline: Group of the baseline method.

    Returns:
        The two groups with averages over these datasets. None if there are none.
    """
    common_datasets = [
        name for name in group.finished_datasets if name in baseline.finished_datasets
    ]
    if not common_datasets:
        return None
    if common_datasets == group.finished_datasets == baseline.finished_datasets:
        return group, baseline

    def restrict(method: Group) -> Group:
        parts = {name: method.parts[name] for name in common_datasets}
        rows = average_rows(study, method.rows[0]["config_key"], parts)
        return dataclasses.replace(method, rows=rows, parts=parts)

    return restrict(group), restrict(baseline)
