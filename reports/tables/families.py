"""The families of a study's comparisons (see Family), one per table."""

import dataclasses
from collections.abc import Iterator, Sequence

from harness.store import FINETUNER_ALONE, SEPARATE_FACTORS, FactorRecord, Run, make_level_id
from reports.cells import Column
from reports.study import Study, build_study_from_runs
from reports.tables.controls import get_factors_of_control
from reports.tables.family import Family, Kind
from reports.tables.group import Group
from reports.tables.groups import (
    MAX_SHOWN_LEVELS,
    find_baseline_configuration_group,
    find_baseline_level_group,
    get_strata_by_configuration,
    make_configuration_groups,
    make_control_groups,
    make_label_columns,
    make_level_groups,
    shorten_factor_names,
    sort_levels,
)
from reports.tables.metric import resolve_metric
from reports.tables.over_datasets import (
    average_over_datasets,
    get_dataset_of_controls,
    get_factors_without_dataset,
    make_method_groups,
    restrict_to_common_datasets,
)


def list_families(study: Study, metric: str) -> Iterator[Family]:
    """Yield the families of a study in the order of their tables.

    - If there is a single factor, and it has at most MAX_SHOWN_LEVELS levels or is one of
      SEPARATE_FACTORS: the family of its levels.
    - Otherwise: the family of all configurations. For a grid, it is followed by a family of main
      effects for each factor with at most MAX_SHOWN_LEVELS levels.

    Args:
        study: Study of one dataset, or of averages over datasets.
        metric: Test metric of the study's protocol.
    """
    is_only_factor = len(study.factors) == 1
    factors_with_table = [
        factor
        for factor in study.factors
        if len(sort_levels(study, factor)) <= MAX_SHOWN_LEVELS
        or (is_only_factor and factor.key in SEPARATE_FACTORS)
    ]
    if is_only_factor and factors_with_table:
        yield make_level_family(study, study.factors[0], metric)
        return
    configurations, controls = make_configuration_groups(study), make_control_groups(study)
    baseline = find_baseline_configuration_group(study, configurations)
    # A control runs at the baseline levels. It can be compared with all configurations only if no
    # factor affects it.
    if baseline is None and not get_factors_of_control(study, FINETUNER_ALONE):
        baseline = next((group for group in controls if group.control == FINETUNER_ALONE), None)
    labels = make_label_columns(study)
    groups = [*configurations, *controls]
    pairs = {
        group: pair
        for group, pair in _pair_with_baseline(baseline, groups).items()
        if _on_same_classes(*pair)
    }
    yield Family(study, metric, "configurations", "configurations", labels, groups, baseline, pairs)
    if study.sampler == "grid":
        for factor in factors_with_table:
            yield make_level_family(study, factor, metric)


def get_first_family(study: Study, metric: str) -> Family:
    """Return the family of a study's first table."""
    return next(list_families(study, metric))


def make_level_family(study: Study, factor: FactorRecord, metric: str) -> Family:
    """Return the family of a factor's levels: its main effects if the study has other factors."""
    is_only_factor = len(study.factors) == 1
    levels = make_level_groups(study, factor)
    controls = make_control_groups(study) if is_only_factor else []
    baseline = None if factor.key in SEPARATE_FACTORS else find_baseline_level_group(factor, levels)
    labels = [Column("level", shorten_factor_names(study)[factor.key], align="left")]
    groups = [*levels, *controls]
    pairs = _pair_with_baseline(baseline, groups)
    strata = {} if is_only_factor else get_strata_by_configuration(study, factor)
    kind: Kind = "levels" if is_only_factor else "effects"
    return Family(study, metric, kind, factor.key, labels, groups, baseline, pairs, strata)


def _pair_with_baseline(
    baseline: Group | None, groups: Sequence[Group]
) -> dict[Group, tuple[Group, Group]]:
    """Return a (group, baseline) pair for each group that is compared; {} without a baseline.

    The baseline itself has no pair. If several groups have the same configurations, only the first
    one has a pair.
    """
    if baseline is None:
        return {}
    distinct_groups: dict[frozenset[str], Group] = {}
    for group in (baseline, *groups):
        distinct_groups.setdefault(group.config_keys, group)
    return {group: (group, baseline) for group in distinct_groups.values() if group is not baseline}


def _on_same_classes(group: Group, baseline: Group) -> bool:
    """Return True if two configurations are tested on the same classes.

    This is always so if one of them is a control: controls run at the baseline levels.
    """
    if group.control or baseline.control:
        return True
    levels, baseline_levels = group.value.assignment, baseline.value.assignment
    return all(
        make_level_id(levels.get(key)) == make_level_id(baseline_levels.get(key))
        for key in SEPARATE_FACTORS
    )


def make_method_family(study: Study, metric: str) -> Family:
    """Return the family of a study's methods over datasets, with its controls.

    A method is a combination of levels of the factors other than the dataset. The controls ran on
    only one of the datasets.

    Args:
        study: Study over several datasets.
        metric: Test metric of the study's protocol.
    """
    methods, dataset = make_method_groups(study), get_dataset_of_controls(study)
    controls = [
        dataclasses.replace(control, parts={dataset: control})
        for control in make_control_groups(study)
    ]
    without_dataset = dataclasses.replace(study, factors=get_factors_without_dataset(study))
    baseline = (
        find_baseline_configuration_group(without_dataset, methods)
        if without_dataset.factors
        else None
    )
    common_pairs = {
        group: restrict_to_common_datasets(study, *pair)
        for group, pair in _pair_with_baseline(baseline, methods).items()
    }
    pairs = {group: pair for group, pair in common_pairs.items() if pair}
    strata = {key: name for group in methods for name, key in group.value.parts.items()}
    labels, groups = make_label_columns(without_dataset), [*methods, *controls]
    return Family(study, metric, "methods", "datasets", labels, groups, baseline, pairs, strata)


def make_families_of_runs(study_name: str, runs: Sequence[Run]) -> list[Family]:
    """Return the families of a study for its main metric.

    In a study over datasets, they compare averages over the datasets. The result is [] if no method
    is planned on all datasets.

    Args:
        study_name: Name of the study.
        runs: Runs of the study's experiment, oldest first. Their files are not read.

    Raises:
        ReportError: If the study's own run is missing or damaged (one line).
        EmptyStudyError: If no run of the study has ended yet.
    """
    study, metric = resolve_metric(build_study_from_runs(study_name, runs), None)
    averaged_study = average_over_datasets(study)
    return list(list_families(averaged_study, metric)) if averaged_study else []
