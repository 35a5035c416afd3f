"""What a study's tables compare with what: families of comparisons that are corrected together."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl

from reports.contract import COMPLETE
from reports.read import Factor, Study, heading, load_records
from reports.stats import Estimate
from reports.tables.comparison import Pairs, compare, differences, same_results
from reports.tables.groups import (
    APART,
    MOST_LEVELS,
    Group,
    arm_groups,
    baseline_level,
    baseline_setting,
    by_seed,
    companions,
    factor_labels,
    level_groups,
    matched,
    ordered_levels,
    results,
    setting_groups,
    short_name,
)
from reports.tables.metric import with_metric
from reports.tables.model import Column, Compared
from reports.tables.over_classes import MOST_RUNS, OverClasses
from reports.tables.pooling import (
    arms_dataset,
    averaged,
    dataset_factor,
    datasets,
    method_groups,
    methods,
    on_common,
)
from reports.tables.preference import without_added


@dataclass(frozen=True, eq=False)
class Family:
    """The groups of one table, and what is compared with what.

    study: whose rows they are.
    metric: that is compared.
    kind: what the groups are, beside reference arms.
    name: of the table: a factor's key, "settings" or "datasets".
    labels: the columns that name a group.
    baseline: the group that others are compared with; None: nothing is.
    cells: setting_key -> companion cell to match within (see companions).
    common: of methods, each with the baseline on the datasets of both (see on_common).
    """

    study: Study
    metric: str
    kind: Literal["levels", "effects", "settings", "methods"]
    name: str
    labels: Sequence[Column]
    groups: Sequence[Group]
    baseline: Group | None
    cells: Mapping[str, str] = field(default_factory=dict)
    common: Sequence[tuple[Group, Group] | None] = ()

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

    @property
    def seconds(self) -> float:
        """Of one more seed of all that the table holds, as far as it has finished."""
        known = [group.known("seconds") for group in self.groups]
        return sum(sum(values) / len(values) for values in known if values)

    @property
    def differences(self) -> list[dict[int, float]]:
        """Of each group that is compared: seed -> difference in the metric, on common seeds."""
        return [differences(*pair) for pair in self._values if pair]

    @cached_property
    def tested(self) -> list[Compared | None]:
        """What tests, or the study's own design, say of each group."""
        return compare(self.study, self.metric, self._values)

    @cached_property
    def compared(self) -> list[Compared | None]:
        """All that is known of each group beside the baseline."""
        return [
            pair and one and self._completed(*pair, one)
            for pair, one in zip(self.pairs, self.tested, strict=True)
        ]

    @cached_property
    def pairs(self) -> Sequence[tuple[Group, Group] | None]:
        """Each group with the baseline; None of what is not compared."""
        return self.common or [
            (group, self.baseline) if self.baseline and group is not self.baseline else None
            for group in self.groups
        ]

    @cached_property
    def _values(self) -> list[Pairs | None]:
        """seed -> metric of a group and of its baseline, on the (cell, seed) pairs of both."""
        return [pair and self._matched(*pair) for pair in self.pairs]

    def _matched(self, group: Group, baseline: Group) -> Pairs:
        cells, column = self._within(group, baseline), f"test/{self.metric}"
        mine, theirs = (matched(one, column, cells) for one in (group, baseline))
        return by_seed(mine, theirs), by_seed(theirs, mine)

    def _within(self, group: Group, baseline: Group) -> Mapping[str, str]:
        """The cells to match within: an arm, which has no factors, meets all of them."""
        return {} if group.arm or baseline.arm else self.cells

    def _completed(self, group: Group, baseline: Group, one: Compared) -> Compared:
        mean, of = one.difference.mean, len(self._datasets)
        common = len(group.present)
        return dataclasses.replace(
            one,
            classes=self._over_classes(group, baseline, mean),
            # looked up where the mean does not deny it
            unchanged=not mean and self._is_unchanged(group, baseline),
            datasets=(common, of) if common < of else None,
        )

    @cached_property
    def _datasets(self) -> Sequence[str]:
        """That an average is to be over; none of groups of one dataset."""
        over = dataset_factor(self.study) if self.kind == "methods" else None
        return datasets(self.study, over) if over else ()

    def _is_unchanged(self, group: Group, baseline: Group) -> bool:
        """Whether all that is compared is the same, not only its means: see same_results."""
        cells, column = self._within(group, baseline), f"test/{self.metric}"
        places = []
        for name in group.present or [""]:
            parts = (one.parts.get(name, one) for one in (group, baseline))
            mine, theirs = (results(one, column, cells) for one in parts)
            places += [[*mine[p], *theirs[p]] for p in mine if p in theirs]
        return same_results(places)

    def _over_classes(self, group: Group, baseline: Group, mean: float) -> Estimate | None:
        """The interval of a difference over other classes; None also where it would take long."""
        runs = self._runs if self.kind != "methods" else _runs((group, baseline))
        if self.study.pooled or runs > MOST_RUNS:
            return None
        cells = self._within(group, baseline)
        return self._classes.difference(group, baseline, cells, mean)

    @cached_property
    def _runs(self) -> int:
        return _runs(self.groups)

    @cached_property
    def _classes(self) -> OverClasses:
        return OverClasses(self.study, self.metric)


def _runs(groups: Sequence[Group]) -> int:
    """The runs behind some groups."""
    return sum(group.trials["run_id"].n_unique() for group in groups)


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
    plain = next((arm for arm in arms if arm.arm == "no_synthetic"), None)
    baseline = baseline_setting(study, settings) or plain
    labels = factor_labels(study)
    yield Family(study, metric, "settings", "settings", labels, [*settings, *arms], baseline)
    own = without_added(study)
    for factor in levelled if study.sampler == "grid" else ():
        yield level_family(own, factor, metric)


def level_family(study: Study, factor: Factor, metric: str) -> Family:
    """The levels of a factor; with other factors beside it, its main effects."""
    alone = len(study.factors) == 1
    levels, arms = level_groups(study, factor), arm_groups(study) if alone else []
    baseline = None if factor.key in APART else baseline_level(factor, levels)
    labels = [Column("level", short_name(study, factor), "left")]
    return Family(
        study,
        metric,
        "levels" if alone else "effects",
        factor.key,
        labels,
        [*levels, *arms],
        baseline,
        companions(study, factor),
    )


def method_family(study: Study, over: Factor, metric: str) -> Family:
    """The methods of a study over datasets, and its reference arms, which ran on one of them.

    Args:
        study: over several datasets.
        over: its factor `dataset`.
        metric: a test metric of its protocol.
    """
    groups, labels = method_lines(study, over)
    found = [group for group in groups if not group.arm]
    beside = _without(study, over)
    baseline = baseline_setting(beside, found) if beside.factors else None
    common = on_common(study, over, methods(study), found, baseline)
    common += [None] * (len(groups) - len(found))
    return Family(study, metric, "methods", "datasets", labels, groups, baseline, common=common)


def method_lines(study: Study, over: Factor) -> tuple[Sequence[Group], Sequence[Column]]:
    """The methods of a study over datasets, then its arms; and the columns that name them."""
    home = arms_dataset(study, over)
    arms = [dataclasses.replace(arm, parts={home: arm}) for arm in arm_groups(study)]
    found = method_groups(study, over, methods(study))
    return [*found, *arms], factor_labels(_without(study, over))


def _without(study: Study, over: Factor) -> Study:
    return dataclasses.replace(study, factors=tuple(f for f in study.factors if f != over))


def load_families(study_name: str, tracking_uri: str) -> list[Family]:
    """The families of a study in a store, by the metric that its report is of.

    Over datasets it is the averages; there is none where no average can be made.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: nothing of it has ended yet.
    """
    study, metric = with_metric(load_records(study_name, tracking_uri), None)
    over = dataset_factor(study)
    whole = averaged(study, over) if over else study
    return list(families(whole, metric)) if whole else []


def load_values(study_name: str, tracking_uri: str) -> dict[str, dict[int, float]]:
    """setting_key -> seed -> the metric that the report is of, of finished rows.

    Raises:
        ReportError, EmptyStudyError: see load_families.
    """
    study, metric = with_metric(load_records(study_name, tracking_uri), None)
    found: dict[str, dict[int, float]] = {}
    rows = study.rows.filter(pl.col("state") == COMPLETE).drop_nulls(f"test/{metric}")
    for key, seed, value in rows.select("setting_key", "seed", f"test/{metric}").iter_rows():
        found.setdefault(key, {})[seed] = value
    return found
