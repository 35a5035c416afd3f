"""What selection prefers: settings as wholes, and the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.store import RIVALS
from reports.formatting import listed
from reports.stats import Compared, Estimate, compare_paired, is_rounding, scale_of
from reports.study import Study
from reports.tables.controls import compare_with_control, controls_by_configuration
from reports.tables.groups import (
    Group,
    baseline_setting,
    chosen_by,
    factor_labels,
    mean,
    own_rows,
    setting_groups,
    spelled,
)
from reports.tables.metric import interval_of
from reports.tables.pooling import averaged, class_factors


def by_preference(study: Study) -> list[tuple[float, Group]]:
    """(mean selection score, setting), the best first; settings without a score are left out."""
    scored = [(group.mean(study.score), group) for group in setting_groups(study)]
    return [
        (score, group)
        for score, group in scored
        if score is not None and len(group.known(study.score)) == len(group.done)
    ]


def selection_rules(study: Study) -> str:
    """What chose the epochs of the settings that are no arms; see chosen_by."""
    return chosen_by(own_rows(study)["selection"].to_list())


def preferred(study: Study) -> list[Group]:
    """The settings with the best selection score: several where selection cannot tell them apart.

    Settings whose scores are one number but for rounding are tied. [] where none has a score.
    """
    found = by_preference(study)
    tied = tied_first([score for score, _ in found])
    return [group for (_, group), one in zip(found, tied, strict=True) if one]


def tied_first(scores: Sequence[float]) -> list[bool]:
    """Of scores, the best first: which are the best one, but for rounding."""
    scale = scale_of(scores)
    return [is_rounding(scores[0] - score, scale) for score in scores]


@dataclass(frozen=True)
class Headline:
    """The setting that selection prefers, on test.

    setting: in words; "" of a study without factors. Tied settings are all named.
    estimate: of the metric, over seeds; of tied settings, of their mean under each seed.
    beside: "baseline" or a control -> the setting's mean difference to it over the seeds that both
        finished; above 0 the setting is ahead. A control has the setting's levels of all factors
        that it reads. Without a finished one there is no difference.
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
        finished, or the settings are of different datasets or classes, or were selected by
        different rules, whose scores are of different pictures. None, too, where a finished seed
        of the preferred one lacks the metric: a table has no mean of it.
    """
    whole = averaged(study)
    if whole is None or class_factors(whole) or "+" in selection_rules(whole):
        return None
    settings = setting_groups(whole)
    best = preferred(whole) or (list(settings) if len(settings) == 1 else [])
    column = f"test/{metric}"
    values = _mean_of([group.seeds(column) for group in best])
    if not values or not all(group.estimate(column) for group in best):
        return None
    baseline = baseline_setting(whole, settings) if whole.factors else None
    compared: dict[str, Compared | None] = {}
    if baseline is not None:
        compared["baseline"] = compare_paired(values, baseline.seeds(column))
    for control in RIVALS:
        controls = controls_by_configuration(whole, control)
        if all(group.value.key in controls for group in best):
            compared[control] = compare_with_control(whole, metric, controls, best)
    beside = {name: found.difference for name, found in compared.items() if found}
    named = listed([spelled(group, factor_labels(whole)) for group in best], "; ")
    setting = f"{len(best)} tied settings: {named}" if len(best) > 1 else named
    return Headline(setting, interval_of(metric, [*values.values()]), beside)


def _mean_of(results: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """seed -> mean over several settings, of the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, results))) if results else []
    return {seed: mean([own[seed] for own in results]) for seed in seeds}
