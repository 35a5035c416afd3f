"""Which ledger rows one row of a table stands for, and their numbers by seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import polars as pl

from reports.contract import ARMS, COMPLETE, FAIL, PRUNED
from reports.read import Factor, Setting, Study
from reports.stats import Estimate
from reports.tables.metric import interval_of
from reports.tables.model import Column, Text, level_id, level_text

# More distinct values than this are a range, not levels.
MOST_LEVELS = 12

# Factors whose levels are measured on classes of their own: nothing is compared between them.
APART = ("dataset", "targets", "unseen_class")

# (what else was set, seed) -> metric: two levels are compared only where both agree.
Matched = dict[tuple[str, int], float]


@dataclass(frozen=True, eq=False)
class Group:
    """The rows (all states) behind one level, setting, method over datasets, or arm.

    labels: that name it.
    value: the level, or the setting.
    parts: dataset -> what ran there, of a line in the table over datasets; its rows are averages
        over the datasets in `present`.
    """

    labels: tuple[Text, ...]
    rows: pl.DataFrame
    arm: str = ""
    value: Any = None
    parts: Mapping[str, "Group"] = field(default_factory=dict)

    @cached_property
    def done(self) -> pl.DataFrame:
        """The rows that count: finished at full fidelity."""
        return self.rows.filter(pl.col("state") == COMPLETE)

    @cached_property
    def _lists(self) -> dict[str, list[Any]]:
        return {}

    def column(self, name: str) -> list[Any]:
        """A column of the rows, taken out of the frame once.

        A list: a filter or a column of some rows costs polars more than their values are worth.
        """
        if name not in self._lists:
            self._lists[name] = self.rows[name].to_list()
        return self._lists[name]

    def count(self, *states: str) -> int:
        """How many rows are in one of the states."""
        return sum(state in states for state in self.column("state"))

    def known(self, column: str) -> list[float]:
        """A column over the rows that count, without nulls; [] where there is no such column."""
        if column not in self._lists and column not in self.rows.columns:
            return []
        pairs = zip(self.column(column), self.column("state"), strict=True)
        return [value for value, state in pairs if state == COMPLETE and value is not None]

    def seeds(self, column: str) -> dict[int, float]:
        """seed -> mean of a column over the finished rows of that seed."""
        found: dict[int, list[float]] = {}
        names = ("seed", "state", column)
        for seed, state, value in zip(*map(self.column, names), strict=True):
            if state == COMPLETE and value is not None:
                found.setdefault(seed, []).append(value)
        return {seed: sum(values) / len(values) for seed, values in found.items()}

    def estimate(self, column: str) -> Estimate | None:
        """The mean of a metric over seeds, with its interval.

        None where a finished row lacks it: a mean over some would not be of the n beside it.
        """
        done = self.count(COMPLETE)
        if not done or len(self.known(column)) < done:
            return None
        return interval_of(column.partition("/")[2], list(self.seeds(column).values()))

    @cached_property
    def present(self) -> list[str]:
        """The datasets that any seed finished on."""
        return [name for name, part in self.parts.items() if part.count(COMPLETE)]

    @cached_property
    def trials(self) -> pl.DataFrame:
        """The rows of single trials, those behind an average each."""
        return pl.concat([part.rows for part in self.parts.values()]) if self.parts else self.rows

    @property
    def added(self) -> bool:
        """Whether it is a setting that `ship-sweep --path` ran."""
        return isinstance(self.value, Setting) and self.value.added

    def missing(self) -> int:
        """Rows that are wanted and have not ended: not run, running or interrupted."""
        return len(self.rows) - self.count(COMPLETE, FAIL, PRUNED)


def ordered_levels(study: Study, factor: Factor) -> list[Any]:
    """The factor's distinct values in the study: numbers ascending, others as declared."""
    used = {}
    for setting in study.settings:
        if not setting.arm and factor.key in setting.assignment:
            value = setting.assignment[factor.key]
            used[level_id(value)] = value
    values = list(used.values())
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return sorted(values)
    declared = [level_id(level) for level in factor.levels or ()]
    place = {level: i for i, level in enumerate(declared)}
    return sorted(values, key=lambda v: (place.get(level_id(v), len(place)), level_text(v)))


def is_numeric(levels: Sequence[Any]) -> bool:
    """Say whether all levels are numbers (true and false are not)."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels)


def level_groups(study: Study, factor: Factor) -> list[Group]:
    """One group a level: every setting of the study that has it."""
    keys: dict[str, list[str]] = {}
    for setting in study.settings:
        if not setting.arm and factor.key in setting.assignment:
            keys.setdefault(level_id(setting.assignment[factor.key]), []).append(setting.key)
    return [
        Group((label(level),), rows_of(study, keys[level_id(level)]), value=level)
        for level in ordered_levels(study, factor)
    ]


def setting_groups(study: Study) -> tuple[Group, ...]:
    """One group a setting, the best mean of the selection objective first, unfinished ones last."""
    if study not in _KNOWN:
        _KNOWN[study] = _setting_groups(study)
    return _KNOWN[study]


# as long as the study is in use: a dozen tables and charts ask for its groups
_KNOWN: WeakKeyDictionary[Study, tuple[Group, ...]] = WeakKeyDictionary()


def _setting_groups(study: Study) -> tuple[Group, ...]:
    column = f"selection/{study.objective}"
    groups: list[tuple[float, int, Group]] = []
    own = [s for s in study.settings if not s.arm]
    rows = rows_by_setting(study)
    for place, setting in enumerate(own):
        labels = tuple(label(setting.assignment.get(f.key)) for f in study.factors)
        group = Group(labels or (Text("constants"),), rows[setting.key], value=setting)
        scores = group.known(column)
        best = sum(scores) / len(scores) if scores else float("-inf")
        groups.append((-best, place, group))
    return tuple(group for _, _, group in sorted(groups, key=lambda item: item[:2]))


def arm_groups(study: Study) -> list[Group]:
    """The study's reference arms in their fixed order."""
    keys = {s.arm: s.key for s in study.settings if s.arm}
    return [
        Group((Text(name),), rows_of(study, [keys[arm]]), arm=arm)
        for arm, (name, _) in ARMS.items()
        if arm in keys
    ]


def label(value: Any) -> Text:
    """A level's cell: rounded for people, exact for CSV."""
    return Text(level_text(value), repr(value) if isinstance(value, float) else "")


def rows_of(study: Study, keys: Sequence[str]) -> pl.DataFrame:
    """The rows of some settings."""
    return study.rows.filter(pl.col("setting_key").is_in(list(keys)))


def rows_by_setting(study: Study) -> dict[str, pl.DataFrame]:
    """setting_key -> its rows."""
    parts = study.rows.partition_by("setting_key", as_dict=True)
    return {str(key): rows for (key,), rows in parts.items()}


def baseline_level(factor: Factor, groups: Sequence[Group]) -> Group | None:
    """The level that the others are compared to: the factor's baseline, else the first."""
    for group in groups:
        if level_id(group.value) == level_id(factor.baseline):
            return group
    return groups[0] if groups else None


def baseline_setting(study: Study, groups: Sequence[Group]) -> Group | None:
    """The setting with every active factor at its baseline, if the study holds it."""
    for group in groups:
        assignment = group.value.assignment
        active = [f for f in study.factors if f.key in assignment]
        if all(level_id(assignment[f.key]) == level_id(f.baseline) for f in active):
            return group
    return None


def companions(study: Study, factor: Factor) -> dict[str, str]:
    """setting_key -> what else was set, over the other factors that every setting has.

    Factors that only some settings have (`when:`) are averaged over, else their levels would leave
    nothing to compare.
    """
    own = [s for s in study.settings if not s.arm]
    shared = [
        f.key for f in study.factors if f != factor and all(f.key in s.assignment for s in own)
    ]
    return {s.key: json.dumps([level_id(s.assignment[key]) for key in shared]) for s in own}


def matched(group: Group, column: str, cells: Mapping[str, str]) -> Matched:
    """(companion cell, seed) -> mean of the column over finished rows; nulls left out.

    Args:
        group: with rows in any state.
        column: of numbers.
        cells: setting_key -> companion cell (see companions); a setting that is not in it has "".
    """
    found = results(group, column, cells)
    return {place: sum(values) / len(values) for place, values in found.items()}


def results(
    group: Group, column: str, cells: Mapping[str, str]
) -> dict[tuple[str, int], list[float]]:
    """(companion cell, seed) -> the values that matched() averages."""
    found: dict[tuple[str, int], list[float]] = {}
    names = ("setting_key", "seed", "state", column)
    for key, seed, state, value in zip(*map(group.column, names), strict=True):
        if state == COMPLETE and value is not None:
            found.setdefault((cells.get(key, ""), seed), []).append(value)
    return found


def by_seed(values: Matched, common: Matched | None = None) -> dict[int, float]:
    """seed -> mean over cells, only cells of `common` where it is given."""
    sums: dict[int, list[float]] = {}
    for (cell, seed), value in values.items():
        if common is None or (cell, seed) in common:
            sums.setdefault(seed, []).append(value)
    return {seed: sum(found) / len(found) for seed, found in sums.items()}


def short_name(study: Study, factor: Factor) -> str:
    """The last part of the dotted name, or all of it where two factors would share it."""
    last = factor.key.rsplit(".", 1)[-1]
    same = [f for f in study.factors if f.key.rsplit(".", 1)[-1] == last]
    return last if len(same) == 1 else factor.key


def short_names(study: Study) -> dict[str, str]:
    """Factor key -> what tables and charts call it."""
    return {factor.key: short_name(study, factor) for factor in study.factors}


def factor_labels(study: Study) -> list[Column]:
    """The columns that name a setting: one a factor, or one for a study without any."""
    names = [Column(f.key, short_name(study, f), "left") for f in study.factors]
    return names or [Column("setting", "setting", "left")]


def spelled(group: Group, columns: Sequence[Column]) -> str:
    """A row in words: "n_ctx 4", or an arm's label; "" of a study without factors."""
    if group.arm:
        return group.labels[0].text
    named = zip(columns, group.labels, strict=False)
    return ", ".join(
        f"{column.heading} {label.text}"
        for column, label in named
        if column.key != "setting" and label.text != "–"
    )
