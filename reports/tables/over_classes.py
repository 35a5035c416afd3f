"""Differences over other test classes, from the right answers that the runs keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reports.contract import COMPLETE, TARGET
from reports.read import Study
from reports.stats import Array, Estimate, Share, interval_over_classes, is_rounding, resampled
from reports.tables.groups import Group

# A file is read for each run of a table, and each seed's classes are drawn again.
MOST_RUNS = 300
_PERCENT = 100.0

_SHARES = {
    "base": Share("own", seen=True),
    "new": Share("own", seen=False),
    "joint_base": Share("all", seen=True),
    "joint_new": Share("all", seen=False),
    "seen": Share("all", seen=True, by_class=True),
    "unseen": Share("all", seen=False, by_class=True),
    "accuracy": Share("all"),
    "source": Share("all", exam="source"),
}

# (what else was set, seed) -> the metric under each draw of classes
_Matched = dict[tuple[str, int], Array]


@dataclass(frozen=True, eq=False)
class OverClasses:
    """Compares groups under other draws of the test's classes.

    study: whose groups they are.
    metric: that the differences are of; an H of averages is that of the averages.
    """

    study: Study
    metric: str
    _known: dict[tuple[Group, bool], _Matched | None] = field(default_factory=dict)

    def difference(
        self, group: Group, baseline: Group, cells: Mapping[str, str], mean: float
    ) -> Estimate | None:
        """The interval of a group's difference to a baseline; None where answers are lacking.

        Nor is there one with nothing to compare, or with answers that differ nowhere.
        Of averages over datasets, each dataset's classes are drawn for themselves.

        Args:
            group, baseline: the ones that are compared.
            cells: setting_key -> companion cell, as in groups.matched.
            mean: the difference on the classes that were tested.
        """
        theirs = self._matched(baseline, cells)
        mine = self._matched(group, cells) if theirs else None
        if not mine or not theirs:
            return None
        by_seed: dict[int, list[Array]] = {}
        for (cell, seed), draws in mine.items():
            if (cell, seed) in theirs:
                by_seed.setdefault(seed, []).append(draws - theirs[cell, seed])
        means = [np.mean(found, axis=0) for found in by_seed.values()]
        if is_rounding([np.ptp(found) for found in means], _PERCENT):
            return None
        return interval_over_classes(mean, means)

    def _matched(self, group: Group, cells: Mapping[str, str]) -> _Matched | None:
        """See _draws_of; kept, as many groups are compared with one."""
        place = group, bool(cells)
        if place not in self._known:
            self._known[place] = self._draws_of(group, cells)
        return self._known[place]

    def _draws_of(self, group: Group, cells: Mapping[str, str]) -> _Matched | None:
        """The mean of the metric in each cell and seed; None where a finished row lacks answers."""
        sums: dict[tuple[str, int], list[Array]] = {}
        runs = {
            name: dict(zip(part.rows["seed"].to_list(), part.rows["run_id"].to_list(), strict=True))
            for name, part in group.parts.items()
            if name in group.present
        }
        names = ("setting_key", "seed", "state", "run_id")
        for key, seed, state, run in zip(*(group.rows[n].to_list() for n in names), strict=True):
            if state != COMPLETE:
                continue
            own = {name: found[seed] for name, found in runs.items()} or {"": run or ""}
            draws = _draws(self.study, own, seed, self.metric)
            if draws is None:
                return None
            sums.setdefault((cells.get(key, ""), seed), []).append(draws)
        return {place: np.mean(found, axis=0) for place, found in sums.items()}


def _draws(study: Study, runs: Mapping[str, str], seed: int, metric: str) -> Array | None:
    """A metric under each draw, averaged over datasets; None where it does not follow from answers.

    Args:
        study: whose metric it is; an H is that of the averages.
        runs: dataset -> the run of the one model trained on it; a single run under any name.
        seed: of the models.
        metric: name of the test metric.
    """
    if metric in study.protocol.halves:
        one, other = (_draws(study, runs, seed, half) for half in study.protocol.halves[metric])
        if one is None or other is None:
            return None
        total = one + other
        return np.asarray(np.where(total > 0, 2 * one * other / np.maximum(total, 1e-12), 0.0))
    found = []
    for name, run in runs.items():
        draws = _of_run(study, run, seed, metric)
        if draws is None:
            return None
        # datasets that number their classes alike have been given the same draws
        order = np.random.default_rng([*name.encode()]).permutation(len(draws))
        found.append(draws[order])
    return np.asarray(np.mean(found, axis=0))


def _of_run(study: Study, run: str, seed: int, metric: str) -> Array | None:
    """An accuracy of one model under each draw."""
    targets = [name for name in study.protocol.headings if name.startswith(TARGET)]
    if metric == "accuracy" and targets:
        found = [_of_run(study, run, seed, target) for target in targets]
        held = [draws for draws in found if draws is not None]
        return np.asarray(np.mean(held, axis=0)) if len(held) == len(found) else None
    share = Share("all", exam=metric) if metric in targets else _SHARES.get(metric)
    counts = study.hits.of(run, seed).get(share.exam) if share else None
    return None if share is None or counts is None else resampled(counts, share)
