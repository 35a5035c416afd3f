"""The numbers that a study is first asked for: its best setting, and what that is ahead of."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.read import Study
from reports.stats import Estimate, compare_paired
from reports.tables.families import paired
from reports.tables.groups import (
    Group,
    arm_groups,
    baseline_setting,
    factor_labels,
    setting_groups,
    spelled,
)
from reports.tables.metric import interval_of
from reports.tables.pooling import averaged, dataset_factor
from reports.tables.preference import preferred, tied_names
from reports.tables.quality_response import on_other_classes
from reports.tables.stopped import compare, is_designed

# The reference arms that a method has to beat.
_RIVALS = ("no_synthetic", "text_feature")


@dataclass(frozen=True)
class Headline:
    """The setting that selection prefers, on test.

    setting: in words; "" of a study without factors. Tied settings are all named.
    estimate: of the metric, over seeds; of tied settings, of their mean under each seed.
    beside: "baseline" or a reference arm -> the setting's mean difference to it over the seeds that
        both finished; above 0 the setting is ahead.
    """

    setting: str
    estimate: Estimate
    beside: Mapping[str, Estimate]


def headline(study: Study, metric: str) -> Headline | None:
    """The headline of a study; over several datasets, of its average over them.

    Args:
        study: as it was read.
        metric: a test metric of its protocol.

    Returns:
        None where no setting is preferred: nothing was selected among several, nothing has
        finished, or the settings are of different datasets or classes.
    """
    over = dataset_factor(study)
    whole = averaged(study, over) if over else study
    if whole is None or on_other_classes(whole):
        return None
    best = _preferred(whole)
    column = f"test/{metric}"
    values = _mean_of([group.seeds(column) for group in best])
    if not values:
        return None
    groups = {arm.arm: arm for arm in arm_groups(whole) if arm.arm in _RIVALS}
    baseline = baseline_setting(whole, setting_groups(whole)) if whole.factors else None
    if baseline is not None:
        groups = {"baseline": baseline, **groups}
    compared = {name: compare_paired(values, g.seeds(column)) for name, g in groups.items()}
    beside = {name: found.difference for name, found in compared.items() if found}
    if is_designed(whole, metric):
        beside = _by_design(whole, metric, best, baseline, beside)
    return Headline(
        tied_names([spelled(group, factor_labels(whole)) for group in best]),
        interval_of(metric, list(values.values())),
        beside,
    )


def _by_design(
    study: Study,
    metric: str,
    best: Sequence[Group],
    baseline: Group | None,
    beside: Mapping[str, Estimate],
) -> dict[str, Estimate]:
    """The differences, with no other intervals than those that the study's own design has."""
    found = {name: dataclasses.replace(one, low=None, high=None) for name, one in beside.items()}
    if baseline is None or len(best) > 1 or best[0].value.key == baseline.value.key:
        return found
    groups = [*setting_groups(study), *arm_groups(study)]
    others = [group for group in groups if group.arm or group.value.key != baseline.value.key]
    pairs = [paired(group, baseline, {}, metric) for group in others]
    for group, (comparison, _) in zip(others, compare(study, metric, pairs), strict=True):
        if comparison is not None and not group.arm and group.value.key == best[0].value.key:
            found["baseline"] = comparison.difference
    return found


def _preferred(study: Study) -> list[Group]:
    """The best settings by selection, or the only one; [] where none is preferred."""
    settings = setting_groups(study)
    return preferred(study) or (settings if len(settings) == 1 else [])


def _mean_of(results: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """seed -> mean over several settings, of the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, results))) if results else []
    return {seed: sum(own[seed] for own in results) / len(results) for seed in seeds}
