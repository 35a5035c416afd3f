"""Beside a study's results: what selection chose for each seed, and how good the features are."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from harness.store import FLAG, QUALITY
from reports.cells import Cell, Column, Table, Text, Value, known
from reports.formatting import number
from reports.study import Study, heading
from reports.tables.families import first_family, method_family
from reports.tables.groups import Group
from reports.tables.metric import MEASURES, Measure, interval_of, measured, places
from reports.tables.notes import COUNTS, group_table
from reports.tables.pooling import datasets

_EDGE = "grid_edge"
# What selection may choose beside the epoch, by its metric's name -> whether the table shows it
# where no grid was searched, too.
_CHOSEN = {"age": True, "alpha": False, "beta": False, "ratio": False, "calibration": True}


def selection_tables(study: Study) -> list[Table]:
    """Return the table of what selection chose beside the epoch, which the first table has.

    A row is as in the study's first table. [] where selection had no such choice.
    """
    there = measured(study)
    if study.score not in there:
        return []
    first = first_family(study, study.objective)
    groups = [group for group in first.groups if group.done]
    searched = f"{FLAG}{_EDGE}" in there  # else they are as configured
    head = f"sel. {heading(study.protocol, study.objective)}"
    columns = [
        COUNTS,
        Column("score", head, lambda group: known(Value, group.estimate(study.score))),
    ]
    scores = len(columns)
    for name, always in _CHOSEN.items():
        if f"selection/{name}" in there and (searched or always):
            columns.append(Column(name, name, partial(_tally, f"selection/{name}")))
    if len(columns) == scores:
        return []
    note = (
        "sel.: on the pictures that selection looks at, at what it chose; alpha, beta, ratio: how"
        " many seeds took each value"
    )
    title = "what selection chose"
    return [group_table(first, groups, "selected", title, columns, [note], place="files")]


def _tally(column: str, group: Group) -> Cell | None:
    """Values with how many seeds took each, the most frequent first: "10 (8), 3 (2)"."""
    values = group.known(column)
    if not values:
        return None
    counts = Counter(values).most_common()
    if len(counts) > 3:  # a constant that is fitted to each seed
        return Text(f"{min(values):.3g} to {max(values):.3g}")
    return Text(", ".join(f"{value:.3g} ({count})" for value, count in counts))


# Errors of one seed's estimate, for programs: the intervals over seeds hold them already.
_ERRORS = ("frechet_error", "mmd_error")
_TEST = f"test/{QUALITY}"


@dataclass(frozen=True)
class _Measured:
    """What was measured of the features of some groups.

    decimals: of each column of the rows that holds a measure.
    n: the rows of each group that have any.
    """

    decimals: Mapping[str, int]
    n: Mapping[Group, int]

    def mean(self, name: str, group: Group) -> Value | None:
        """Of a column, over seeds."""
        values = group.known(name)
        if not values:
            return None
        estimate = interval_of(name.partition("/")[2], [*group.seeds(name).values()])
        suffix = f"(n {len(values)})" if len(values) < self.n[group] else ""
        return Value(estimate, decimals=self.decimals[name], suffix=suffix)

    def beside(self, one: Measure, group: Group) -> Cell | None:
        """The mean of a measure, with the real features' own behind it, where that is known."""
        value, real = (self.mean(f"{_TEST}{name}", group) for name in (one.metric, one.beside))
        if value is None or real is None:
            return value
        behind = f"/ {number(real.estimate.mean, value.decimals)} {value.suffix}"
        return dataclasses.replace(value, suffix=behind.strip())

    def counts(self, group: Group) -> Cell:
        """The rows of a group, of those that finished the ones with measures."""
        return dataclasses.replace(group.counts, done=self.n[group])


def quality_tables(study: Study) -> list[Table]:
    """The table of quality, a row as in the study's first table; none where nothing was measured.

    Over several datasets a seed's value is its mean over those on which its method finished; with
    no other factor a dataset is a row of its own.
    """
    names = sorted(name for name in measured(study) if QUALITY in name)
    if not any(name.startswith(_TEST) for name in names):
        return []
    over = len(datasets(study)) if len(study.factors) > 1 else 0
    family = (method_family if over else first_family)(study, study.objective)
    # What has no synthetic features is left out, what has not finished is not.
    groups = [one for one in family.groups if any(map(one.known, names)) or not one.done]
    values = {name: [v for group in groups for v in group.known(name)] for name in names}
    decimals = {name: places(found) for name, found in values.items() if found}
    if not decimals:  # an average over datasets is of measures that all of them have
        return []
    n = {one: len({place for name in decimals for place in one.results(name)}) for one in groups}
    found = _Measured(decimals, n)
    columns = [Column("n", "n", found.counts)]
    if over:
        columns.append(Column("datasets", "datasets", partial(_over, over)))
    shown = [one for one in MEASURES if f"{_TEST}{one.metric}" in decimals]
    for one in shown:
        drop = 0 if one.metric == study.protocol.telling else one.drop
        columns.append(Column(one.metric, one.heading, partial(found.beside, one), drop=drop))
    # the real features' own, the errors, and what is of pseudo-new classes: for programs
    hidden = {f"{_TEST}{name}": name for name in (*(m.beside for m in MEASURES), *_ERRORS)}
    pseudo = [name for name in decimals if not name.startswith(_TEST)]
    hidden |= {name: f"pseudo_new_{name.partition(QUALITY)[2]}" for name in pseudo}
    for name in filter(decimals.__contains__, hidden):
        key = hidden[name]
        columns.append(Column(key, key, partial(found.mean, name), csv_only=True))
    notes = [
        "n: finished rows with synthesized features, one a seed; datasets: those that the average"
        " of a row is over",
        "; ".join(one.meaning for one in shown if one.meaning),
    ]
    kind = f"{study.protocol.unseen or 'tested'} classes, test pictures"
    title = f"quality of synthesized features ({kind})"
    return [group_table(family, groups, "quality", title, columns, notes, place="files")]


def _over(datasets: int, group: Group) -> Cell:
    """The datasets that a row is the average over, of so many."""
    count = len(group.present or group.parts)
    return Text(str(count) if count == datasets else f"{count} of {datasets}")
