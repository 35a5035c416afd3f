"""What a study is first asked for: its best setting, and what a run has changed in its table."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.contract import COMPLETE, printable
from reports.read import Study, heading
from reports.stats import Estimate, compare_paired
from reports.tables.associations import on_other_classes
from reports.tables.comparison import is_designed
from reports.tables.families import families
from reports.tables.formatting import number
from reports.tables.groups import (
    Group,
    arm_groups,
    baseline_setting,
    factor_labels,
    setting_groups,
    spelled,
)
from reports.tables.metric import decimals_of, interval_of, with_metric
from reports.tables.pooling import averaged, dataset_factor
from reports.tables.preference import preferred, tied_names

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
    rivals = {arm.arm: arm for arm in arm_groups(whole) if arm.arm in _RIVALS}
    baseline = baseline_setting(whole, setting_groups(whole)) if whole.factors else None
    groups = {"baseline": baseline, **rivals} if baseline is not None else rivals
    compared = {name: compare_paired(values, g.seeds(column)) for name, g in groups.items()}
    beside = {name: found.difference for name, found in compared.items() if found}
    if is_designed(whole, metric):
        beside = _by_design(whole, metric, best, beside)
    return Headline(
        tied_names([spelled(group, factor_labels(whole)) for group in best]),
        interval_of(metric, list(values.values())),
        beside,
    )


def _by_design(
    study: Study, metric: str, best: Sequence[Group], beside: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """The differences, with no other intervals than those that the study's own design has."""
    found = {name: dataclasses.replace(one, low=None, high=None) for name, one in beside.items()}
    family = next(families(study, metric))
    for group, tested in zip(family.groups, family.tested, strict=True):
        keys = set(group.rows["setting_key"].to_list())
        if tested and not group.arm and keys == {one.value.key for one in best}:
            found["baseline"] = tested.difference
    return found


def _preferred(study: Study) -> list[Group]:
    """The best settings by selection, or the only one; [] where none is preferred."""
    settings = setting_groups(study)
    return preferred(study) or (list(settings) if len(settings) == 1 else [])


def _mean_of(results: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """seed -> mean over several settings, of the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, results))) if results else []
    return {seed: sum(own[seed] for own in results) / len(results) for seed in seeds}


MOST_CHANGES = 10


def standings(study: Study, metric: str, decimals: int) -> dict[str, str]:
    """Rows of the study's first table in its order, by their names: "60.5 (n 2)", mean and seeds.

    Args:
        study: whose levels or settings, and reference arms, these are.
        metric: a test metric; a row without it, or without a finished seed, is left out.
        decimals: of the means.
    """
    first = next(families(study, metric))
    found = {}
    for group in first.groups:
        if values := group.seeds(f"test/{metric}"):
            mean = number(sum(values.values()) / len(values), decimals)
            name = spelled(group, first.labels) or group.labels[0].text
            found[name] = f"{mean} (n {group.count(COMPLETE)})"
    return found


def changed_rows(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """A line for each row that came, moved or left, in this order.

    Args:
        before, after: see standings; a row has moved where it reads otherwise.
    """
    yield from (f"new: {name}: {after[name]}" for name in after if name not in before)
    for name in after:
        if name in before and before[name] != after[name]:
            yield f"moved: {name}: {before[name]} -> {after[name]}"
    yield from (f"left: {name}: {before[name]}" for name in before if name not in after)


def change_lines(before: Study, after: Study) -> list[str]:
    """What is said of a run that has changed the table; [] where it has changed no row.

    Args:
        before, after: the study as it stood before the run and as it stands now.
    """
    _, metric = with_metric(after, None)
    decimals = decimals_of(after, metric)
    rows = list(changed_rows(*(standings(study, metric, decimals) for study in (before, after))))
    if not rows:
        return []
    more = len(rows) - MOST_CHANGES
    rest = [f"and {more} more"] if more > 0 else []
    title = f"since the last run ({heading(after.protocol, metric)}):"
    return [title, *(f"  {printable(line)}" for line in [*rows[:MOST_CHANGES], *rest])]
