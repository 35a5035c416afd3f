"""Which ledger rows one row of a table stands for, and their numbers by seed."""

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import polars as pl

from harness.store import ARMS, COMPLETE, FAIL, FLAG, PRUNED, Configuration, Factor, level_id
from reports.cells import Column, Counts, Flagged, Text, level_text
from reports.formatting import DASH
from reports.stats import Estimate
from reports.study import Study
from reports.tables.metric import interval_of

# More distinct values than this are a range, not levels.
MOST_LEVELS = 12

# What else was set, and the seed: two levels are compared only where both agree.
Place = tuple[str, int]


def mean(values: Sequence[float]) -> float:
    """The mean of some values, summed in their order."""
    return sum(values) / len(values)


@dataclass(frozen=True, eq=False)
class Group:
    """The rows (all states) behind one level, setting, method over datasets, or arm.

    labels: that name it.
    value: the level, or the setting.
    parts: dataset -> what ran there, of a line in the table over datasets; its rows are averages
        over the datasets in `present`.
    """

    labels: tuple[Text, ...]
    rows: Sequence[Mapping[str, Any]]
    arm: str = ""
    value: Any = None
    parts: Mapping[str, "Group"] = field(default_factory=dict)

    @cached_property
    def done(self) -> list[Mapping[str, Any]]:
        """The rows that count: those that finished."""
        return [row for row in self.rows if row["state"] == COMPLETE]

    def column(self, name: str) -> list[Any]:
        """A column of the rows, in any state."""
        return [row[name] for row in self.rows]

    def known(self, column: str) -> list[Any]:
        """A column over the rows that count, without nulls; [] where there is no such column."""
        return [row[column] for row in self.done if row.get(column) is not None]

    def mean(self, column: str) -> float | None:
        """The mean of a column over the rows that count; None without any."""
        found = self.known(column)
        return mean(found) if found else None

    def results(
        self, column: str, cells: Mapping[str, str] | None = None
    ) -> dict[Place, list[Any]]:
        """The known values of a column in finished rows, by place.

        Args:
            column: of the rows.
            cells: setting_key -> companion cell (see companions); of a setting that it lacks, "".
        """
        found: dict[Place, list[Any]] = {}
        for row in self.done:
            if row.get(column) is not None:
                place = (cells or {}).get(row["setting_key"], ""), row["seed"]
                found.setdefault(place, []).append(row[column])
        return found

    def seeds(self, column: str) -> dict[int, float]:
        """seed -> mean of a column over the finished rows of that seed."""
        return {seed: mean(values) for (_, seed), values in self.results(column).items()}

    def estimate(self, column: str) -> Estimate | None:
        """The mean of a metric over seeds, with its interval.

        None where a finished row lacks it: a mean over some would not be of the n beside it.
        """
        if not self.done or len(self.known(column)) < len(self.done):
            return None
        return interval_of(column.partition("/")[2], list(self.seeds(column).values()))

    @cached_property
    def present(self) -> list[str]:
        """The datasets that any seed finished on."""
        return [name for name, part in self.parts.items() if part.done]

    @cached_property
    def settings(self) -> frozenset[str]:
        """The keys of the settings behind it, by which an arm is told to be one of them."""
        return frozenset(self.column("setting_key"))

    @property
    def trials(self) -> "Group":
        """The single trials: of averages, those behind them."""
        rows = [row for part in self.parts.values() for row in part.rows]
        return Group((), rows) if rows else self

    @property
    def counts(self) -> Counts:
        """The rows that finished, and those that did not; those that have not ended are missing."""
        states = self.column("state")
        done, failed, pruned = map(states.count, (COMPLETE, FAIL, PRUNED))
        return Counts(done, failed, pruned, len(states) - done - failed - pruned)

    def flags(self) -> tuple[Flagged, ...]:
        """The flags that finished trials raised; where one was not looked for does not count."""
        found = []
        for name in (name for name in self.rows[0] if name.startswith(FLAG)):
            values = self.known(name)
            if raised := sum(value >= 0.5 for value in values):
                found.append(Flagged(name.removeprefix(FLAG), raised, len(values)))
        return tuple(found)


def ordered_levels(study: Study, factor: Factor) -> list[Any]:
    """The factor's distinct values in the study: numbers ascending, others as declared."""
    found = [setting.assignment[factor.key] for setting in _active_in(study, factor)]
    values = list({level_id(value): value for value in found}.values())
    if is_numeric(values):
        return sorted(values)
    declared = [level_id(level) for level in factor.levels or ()]
    place = {level: i for i, level in enumerate(declared)}
    return sorted(values, key=lambda v: (place.get(level_id(v), len(place)), level_text(v)))


def is_numeric(levels: Sequence[Any]) -> bool:
    """Say whether all levels are numbers (true and false are not)."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)


LARGEST = 1e100  # of a number whose square can be taken


def as_numbers(levels: Sequence[Any]) -> list[float] | None:
    """Levels on their scale; None where one is a word, or no number that can be computed with."""
    # no NaN is at most anything
    sound = is_numeric(levels) and all(abs(level) <= LARGEST for level in levels)
    return [float(level) for level in levels] if sound else None


def level_groups(study: Study, factor: Factor) -> list[Group]:
    """One group a level: every setting of the study that has it."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for setting in _active_in(study, factor):
        own = study.by_setting[setting.key]
        rows.setdefault(level_id(setting.assignment[factor.key]), []).extend(own)
    return [
        Group((label(level),), rows[level_id(level)], value=level)
        for level in ordered_levels(study, factor)
    ]


def _active_in(study: Study, factor: Factor) -> list[Configuration]:
    """The study's own settings in which a factor is active."""
    return [s for s in study.own if factor.key in s.assignment]


# as long as the study is in use: a dozen tables and charts ask for its groups
_KNOWN: WeakKeyDictionary[Study, tuple[Group, ...]] = WeakKeyDictionary()


def setting_groups(study: Study) -> tuple[Group, ...]:
    """One group a setting, the best mean of the selection objective first, unfinished ones last."""

    def loss(group: Group) -> float:
        score = group.mean(study.score)
        return inf if score is None else -score

    if study not in _KNOWN:
        groups = [
            Group(labels_of(study, one.assignment), study.by_setting[one.key], value=one)
            for one in study.own
        ]
        _KNOWN[study] = tuple(sorted(groups, key=loss))
    return _KNOWN[study]


def labels_of(
    study: Study, assignment: Mapping[str, Any], alone: str = "constants"
) -> tuple[Text, ...]:
    """The cells that name a setting, one a factor; of a study without factors, one of a word."""
    keys = [factor.key for factor in study.factors]
    # a dash where the factor is not active
    named = (label(assignment[key]) if key in assignment else Text(DASH) for key in keys)
    return tuple(named) or (Text(alone),)


def arm_groups(study: Study) -> list[Group]:
    """The study's reference arms at the baseline, in their fixed order."""
    keys = {s.arm: s.key for s in study.settings if s.arm and not s.assignment}
    return [
        Group((Text(name),), study.by_setting[keys[arm]], arm=arm)
        for arm, (name, _) in ARMS.items()
        if arm in keys
    ]


def all_rows(study: Study) -> Group:
    """Every row of a study."""
    return Group((), [row for rows in study.by_setting.values() for row in rows])


def chosen_by(rules: Iterable[str | None]) -> str:
    """What chose the epochs of some rows: the one rule, or all of them joined by "+"."""
    return "+".join(sorted({rule for rule in rules if rule}))


def label(value: Any) -> Text:
    """A level's cell: rounded for people, exact for CSV."""
    return Text(level_text(value), repr(value) if isinstance(value, float) else "")


def rows_of(study: Study, keys: Sequence[str]) -> pl.DataFrame:
    """The rows of some settings."""
    return study.rows.filter(pl.col("setting_key").is_in(list(keys)))


def own_rows(study: Study) -> pl.DataFrame:
    """The rows of the settings that are no reference arms."""
    return rows_of(study, [setting.key for setting in study.own])


def baseline_level(factor: Factor, groups: Sequence[Group]) -> Group | None:
    """The level that the others are compared to: the factor's baseline, else the first."""
    named = [group for group in groups if level_id(group.value) == level_id(factor.baseline)]
    return next(iter([*named, *groups]), None)


def baseline_setting(study: Study, groups: Sequence[Group]) -> Group | None:
    """The setting with every active factor at its baseline, if the study holds it."""
    baselines = {factor.key: level_id(factor.baseline) for factor in study.factors}
    for group in groups:
        levels = {key: level_id(value) for key, value in group.value.assignment.items()}
        if all(levels[key] == baselines[key] for key in levels.keys() & baselines.keys()):
            return group
    return None


def companions(study: Study, factor: Factor) -> dict[str, str]:
    """setting_key -> what else was set, over the other factors that every setting has.

    Factors that only some settings have (`when:`) are averaged over, else their levels would leave
    nothing to compare.
    """
    others = [f.key for f in study.factors if f != factor]
    shared = [key for key in others if all(key in s.assignment for s in study.own)]
    return {s.key: json.dumps([level_id(s.assignment[key]) for key in shared]) for s in study.own}


def by_seed(results: Mapping[Place, Sequence[float]], common: Container[Place]) -> dict[int, float]:
    """seed -> mean over cells of the means there.

    Args:
        results: see Group.results.
        common: the places that count.
    """
    found: dict[int, list[float]] = {}
    for place, values in results.items():
        if place in common:
            found.setdefault(place[1], []).append(mean(values))
    return {seed: mean(values) for seed, values in found.items()}


def short_names(study: Study) -> dict[str, str]:
    """Factor key -> what tables and charts call it.

    That is the last part of the dotted name, or all of it where two factors would share it.
    """
    last = {factor.key: factor.key.rpartition(".")[2] for factor in study.factors}
    shared = Counter(last.values())
    return {key: name if shared[name] == 1 else key for key, name in last.items()}


def factor_labels(study: Study) -> list[Column]:
    """The columns that name a setting: one a factor, or one for a study without any."""
    names = [Column(key, name, align="left") for key, name in short_names(study).items()]
    return names or [Column("setting", "setting", align="left")]


def spelled(group: Group, columns: Sequence[Column]) -> str:
    """A row in words: "n_ctx 4", or an arm's label; "" of a study without factors."""
    if group.arm:
        return group.labels[0].text
    named = zip(columns, group.labels, strict=False)
    return ", ".join(
        f"{column.heading} {label.text}"
        for column, label in named
        if column.key != "setting" and label.text != DASH
    )
