"""What a study's tables compare with what: families of comparisons that are corrected together."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal

from harness.store import ALONE, APART, RIVALS, Factor, level_id
from reports import stats
from reports.cells import Column
from reports.stats import Compared, is_rounding, scale_of
from reports.study import Study, heading, load_records
from reports.tables.controls import controls_by_configuration, levels_of_control
from reports.tables.groups import (
    MOST_LEVELS,
    Group,
    Place,
    arm_groups,
    baseline_level,
    baseline_setting,
    by_seed,
    companions,
    factor_labels,
    level_groups,
    ordered_levels,
    setting_groups,
    short_names,
)
from reports.tables.metric import decimals_of, effect_of, with_metric
from reports.tables.over_classes import (
    MOST_RUNS,
    Draws,
    difference_over_classes,
    draws_of,
    has_answers,
)
from reports.tables.pooling import (
    arms_dataset,
    averaged,
    beside_dataset,
    datasets,
    method_groups,
    on_common,
)

Kind = Literal["levels", "effects", "settings", "methods"]
TOP = 10  # settings that a page shows of a sampled study
MOST = 1_000  # settings of a grid that a page shows
# seed -> metric of a row, and of its baseline
Pairs = tuple[Mapping[int, float], Mapping[int, float]]


def differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """seed -> value - baseline, on common seeds."""
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


@dataclass(frozen=True, eq=False)
class Family:
    """The groups of one table, and what is compared with what.

    study: whose rows they are.
    metric: that is compared.
    kind: what the groups are, beside reference arms.
    name: of the table: a factor's key, "settings" or "datasets".
    labels: the columns that name a group.
    baseline: the group that others are compared with; None: nothing is.
    pairs: group -> itself with the baseline, as they are compared; only of what is compared. An arm
        that is one of the settings is compared in its place: the same test counts once.
    cells: setting_key -> companion cell to match within (see companions), or its dataset, of
        several; none of arms.
    """

    study: Study
    metric: str
    kind: Kind
    name: str
    labels: Sequence[Column]
    groups: Sequence[Group]
    baseline: Group | None
    pairs: Mapping[Group, tuple[Group, Group]]
    cells: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The metric's heading."""
        return heading(self.study.protocol, self.metric)

    @property
    def comparable(self) -> bool:
        """Whether differences between the groups mean anything, and there are several."""
        if self.kind == "methods":
            return sum(not group.arm for group in self.groups) > 1
        return self.name not in APART

    @cached_property
    def controls(self) -> dict[str, Mapping[str, Group]]:
        """Controls by setting key, for each control that reads a factor of the table.

        Where it reads none, all rows have the control of the baseline, which is a row itself.
        """
        found: dict[str, Mapping[str, Group]] = {}
        for control in RIVALS:
            read = levels_of_control(self.study, control)
            if self.name in read or (self.kind == "settings" and read):
                found[control] = controls_by_configuration(self.study, control)
        return {control: controls for control, controls in found.items() if controls}

    @property
    def shown(self) -> int | None:
        """How many settings a page shows, the best ones; None of what it shows all of."""
        if self.kind != "settings":
            return None
        return MOST if self.study.sampler == "grid" else TOP

    @property
    def seconds(self) -> float:
        """Of one more seed of every setting in the table, as far as it has finished.

        Of averages over datasets, on each of them.
        """
        each = sum((group.mean("seconds") or 0.0) * len(group.settings) for group in self.groups)
        return each * max(1, len(self.study.pooled))

    @property
    def differences(self) -> list[dict[int, float]]:
        """Of each group that is compared: seed -> difference in the metric, on common seeds."""
        return [differences(*values) for values in self._values.values()]

    @cached_property
    def compared(self) -> dict[Group, Compared]:
        """What tests say of each group beside the baseline."""
        study, metric, pairs = self.study, self.metric, self._values.values()
        found = [one for pair in pairs if (one := stats.compare_paired(*pair))]
        found = stats.judge(found, effect_of(study, metric))
        decimals = decimals_of(study, metric)
        found = [dataclasses.replace(one, decimals=decimals) for one in found]
        named = zip(self._values, found, strict=True)
        known = {group: self._completed(one, *self.pairs[group]) for group, one in named}
        # an arm that is one of the settings says what that says
        own = {group.settings: one for group, one in known.items()}
        others = (group for group in self.groups if group.arm and group not in known)
        return known | {arm: own[arm.settings] for arm in others if arm.settings in own}

    @cached_property
    def _values(self) -> dict[Group, Pairs]:
        """seed -> metric of a group and of its baseline, on the (cell, seed) pairs of both."""
        found: dict[Group, Pairs] = {}
        for group, pair in self.pairs.items():
            mine, theirs = map(self._results, pair)
            if mine.keys() & theirs.keys():
                found[group] = by_seed(mine, theirs), by_seed(theirs, mine)
        return found

    def _results(self, group: Group) -> dict[Place, list[float]]:
        return group.results(f"test/{self.metric}", self.cells)

    def _completed(self, one: Compared, group: Group, baseline: Group) -> Compared:
        mean = one.difference.mean
        mine, theirs = self._draws(group), self._draws(baseline)
        # looked up where the mean does not deny it
        same = not mean and self._is_unchanged(group, baseline)
        over, of = len(group.present), len(self.datasets)
        classes = difference_over_classes(mine, theirs, mean)
        return dataclasses.replace(
            one,
            classes=classes,
            n_classes=min(one.n_classes for one in mine.values()) if classes else 0,
            is_unchanged=same,
            verdict=None if same else one.verdict,
            datasets=(over, of) if over < of else None,
        )

    @cached_property
    def datasets(self) -> Sequence[str]:
        """The datasets that an average should be over; () of a family that averages none."""
        return datasets(self.study) if self.kind == "methods" else ()

    def _is_unchanged(self, group: Group, baseline: Group) -> bool:
        """Whether each result that is compared is the same but for rounding, not only the means."""
        mine, theirs = (self._results(one.trials) for one in (group, baseline))
        places = [[*mine[place], *theirs[place]] for place in mine.keys() & theirs.keys()]
        return bool(places) and all(
            is_rounding(max(found) - min(found), scale_of(found)) for found in places
        )

    @cached_property
    def _draws(self) -> Callable[[Group], Draws]:
        """A function: a group -> its metric over other classes, kept; {} where it takes long."""
        runs = {run for group in self.groups for run in group.trials.column("run_id")}
        if self.kind != "methods" and len(runs) > MOST_RUNS:
            return lambda group: {}
        return cache(lambda group: draws_of(self.study, self.metric, group, self.cells))

    @cached_property
    def runs_without_answers(self) -> tuple[int, int]:
        """The number of finished runs without right answers that can be read, and of all runs.

        (0, 0) if no run has any, if the metric does not follow from them, or if there are too many
        runs to look.
        """
        runs = {run for group in self.groups for run in group.trials.column("run_id")}
        if len(runs) > MOST_RUNS or not has_answers(self.study, self.metric):
            return 0, 0
        finished = {
            run
            for group in self.groups
            for found in group.trials.results("run_id", self.cells).values()
            for run in found
        }
        lacking = sum(self.study.hits.of(run).is_empty() for run in finished)
        return (lacking, len(finished)) if lacking < len(finished) else (0, 0)


def families(study: Study, metric: str) -> Iterator[Family]:
    """What the tables of a study compare, the first table first.

    Its levels, of one factor with levels; else its settings, and on a grid each factor's main
    effects.

    Args:
        study: of one dataset, or of averages.
        metric: a test metric of its protocol.
    """
    alone = len(study.factors) == 1
    levelled = [
        factor
        for factor in study.factors
        if len(ordered_levels(study, factor)) <= MOST_LEVELS or (alone and factor.key in APART)
    ]
    if alone and levelled:
        yield level_family(study, study.factors[0], metric)
        return
    settings, arms = setting_groups(study), arm_groups(study)
    # a control is no baseline of settings at other levels of the factors that it reads
    is_fair = not levels_of_control(study, ALONE)
    plain = next((arm for arm in arms if arm.arm == ALONE and is_fair), None)
    baseline = baseline_setting(study, settings) or plain
    labels = factor_labels(study)
    groups = [*settings, *arms]
    pairs = {
        one: pair for one, pair in _against(baseline, groups).items() if _on_same_classes(*pair)
    }
    yield Family(study, metric, "settings", "settings", labels, groups, baseline, pairs)
    for factor in levelled if study.sampler == "grid" else ():
        yield level_family(study, factor, metric)


def first_family(study: Study, metric: str) -> Family:
    """What a study's first table compares."""
    return next(families(study, metric))


def level_family(study: Study, factor: Factor, metric: str) -> Family:
    """The levels of a factor; with other factors beside it, its main effects."""
    alone = len(study.factors) == 1
    levels, arms = level_groups(study, factor), arm_groups(study) if alone else []
    baseline = None if factor.key in APART else baseline_level(factor, levels)
    labels = [Column("level", short_names(study)[factor.key], align="left")]
    groups = [*levels, *arms]
    pairs, cells = _against(baseline, groups), {} if alone else companions(study, factor)
    kind: Kind = "levels" if alone else "effects"
    return Family(study, metric, kind, factor.key, labels, groups, baseline, pairs, cells)


def _against(baseline: Group | None, groups: Sequence[Group]) -> dict[Group, tuple[Group, Group]]:
    """Each group with the baseline, once, but for the baseline itself."""
    if baseline is None:
        return {}
    once: dict[frozenset[str], Group] = {}
    for group in (baseline, *groups):
        once.setdefault(group.settings, group)
    return {one: (one, baseline) for one in once.values() if one is not baseline}


def _on_same_classes(group: Group, baseline: Group) -> bool:
    """Whether two settings are tested on the same classes; arms are at the baseline's levels."""
    if group.arm or baseline.arm:
        return True
    mine, theirs = group.value.assignment, baseline.value.assignment
    return all(level_id(mine.get(key)) == level_id(theirs.get(key)) for key in APART)


def method_family(study: Study, metric: str) -> Family:
    """The methods of a study over datasets, and its reference arms, which ran on one of them.

    Args:
        study: over several datasets.
        metric: a test metric of its protocol.
    """
    own, home = method_groups(study), arms_dataset(study)
    arms = [dataclasses.replace(arm, parts={home: arm}) for arm in arm_groups(study)]
    beside = dataclasses.replace(study, factors=beside_dataset(study))
    baseline = baseline_setting(beside, own) if beside.factors else None
    both = {one: on_common(study, *pair) for one, pair in _against(baseline, own).items()}
    pairs = {one: pair for one, pair in both.items() if pair}
    cells = {key: name for one in own for name, key in one.value.parts.items()}
    labels, groups = factor_labels(beside), [*own, *arms]
    return Family(study, metric, "methods", "datasets", labels, groups, baseline, pairs, cells)


def load_families(study_name: str, tracking_uri: str) -> list[Family]:
    """The families of a study in a store, by the metric that its report is of.

    Over datasets it is the averages; there is none where no average can be made.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: nothing of it has ended yet.
    """
    study, metric = with_metric(load_records(study_name, tracking_uri), None)
    whole = averaged(study)
    return list(families(whole, metric)) if whole else []
