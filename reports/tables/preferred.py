"""What selection prefers: settings as wholes, the best one, and what a run has changed."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.contract import COMPLETE, RIVALS, printable
from reports.read import Study, heading
from reports.stats import Estimate, compare_paired, is_rounding, scale_of
from reports.tables.comparison import is_designed
from reports.tables.families import first_family
from reports.tables.formatting import number
from reports.tables.groups import (
    Group,
    arm_groups,
    baseline_setting,
    factor_labels,
    mean,
    setting_groups,
    spelled,
)
from reports.tables.metric import decimals_of, interval_of, with_metric
from reports.tables.model import ADDED
from reports.tables.pooling import averaged, on_other_classes


def added_notes(marks: Iterable[bool]) -> list[str]:
    """What the mark beside such rows means; [] where no row has it."""
    if not any(marks):
        return []
    return [
        f"{ADDED} run by --path, between the baseline and what selection preferred: asked for after"
        " results were known, by selection scores and not by test; selection may prefer it as any"
        " other setting"
    ]


MOST_TIED = 6  # settings that a sentence names


def by_preference(study: Study) -> list[tuple[float, Group]]:
    """(mean selection score, setting), the best first; settings without a score are left out."""
    column = f"selection/{study.objective}"
    scored = [(group.mean(column), group) for group in setting_groups(study)]
    return [
        (score, group)
        for score, group in scored
        if score is not None and len(group.known(column)) == group.count(COMPLETE)
    ]


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


def tied_names(names: Sequence[str]) -> str:
    """Tied settings in words, the first few of many: "2 tied settings: n_ctx 1; n_ctx 2"."""
    if len(names) < 2:
        return "".join(names)
    more = f" and {len(names) - MOST_TIED} more" if len(names) > MOST_TIED else ""
    return f"{len(names)} tied settings: {'; '.join(names[:MOST_TIED])}{more}"


def preferred_note(study: Study) -> list[str]:
    """A line that names the setting with the best selection score; [] where there are not two.

    A part of a study that leaves settings aside does not know which one that is.
    """
    found = by_preference(study) if study.factors and not study.aside else []
    if len(found) < 2:
        return []
    best, labels = preferred(study), factor_labels(study)
    score, names = found[0][0], tied_names([spelled(group, labels) for group in best])
    told = f"sel. {heading(study.protocol, study.objective)} {score:.1f}"
    if len(best) > 1:
        return [f"selection alone cannot choose among {names} ({told})"]
    ran = ", which --path ran" if best[0].added else ""
    ahead = score - found[1][0]
    return [f"selection alone would take {names}{ran}: {told}, {ahead:.1f} above the next"]


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
    whole = averaged(study)
    if whole is None or on_other_classes(whole):
        return None
    settings = setting_groups(whole)
    best = preferred(whole) or (list(settings) if len(settings) == 1 else [])
    column = f"test/{metric}"
    values = _mean_of([group.seeds(column) for group in best])
    if not values:
        return None
    groups = {arm.arm: arm for arm in arm_groups(whole) if arm.arm in RIVALS}
    baseline = baseline_setting(whole, settings) if whole.factors else None
    if baseline is not None:
        groups = {"baseline": baseline, **groups}
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
    family, keys = first_family(study, metric), {one.value.key for one in best}
    for group, tested in zip(family.groups, family.tested, strict=True):
        if tested and not group.arm and {*group.column("setting_key")} == keys:
            found["baseline"] = tested.difference
    return found


def _mean_of(results: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """seed -> mean over several settings, of the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, results))) if results else []
    return {seed: mean([own[seed] for own in results]) for seed in seeds}


MOST_CHANGES = 10


def standings(study: Study, metric: str, decimals: int) -> dict[str, str]:
    """Rows of the study's first table in its order, by their names: "60.5 (n 2)", mean and seeds.

    Args:
        study: whose levels or settings, and reference arms, these are.
        metric: a test metric; a row without it, or without a finished seed, is left out.
        decimals: of the means.
    """
    first = first_family(study, metric)
    found = {}
    for group in first.groups:
        if values := group.seeds(f"test/{metric}"):
            name = spelled(group, first.labels) or group.labels[0].text
            value = number(mean([*values.values()]), decimals)
            found[name] = f"{value} (n {group.count(COMPLETE)})"
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
