"""Differences over other test classes, from the right answers that the runs keep."""

from collections.abc import Mapping

import numpy as np

from reports.contract import TARGET
from reports.read import Study
from reports.stats import Array, Estimate, Share, interval_over_classes, is_rounding, resampled
from reports.tables.groups import Group, Place

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

# The metric under each draw of classes, of each place; no place where it is unknown
Draws = Mapping[Place, Array]


def difference_over_classes(mine: Draws, theirs: Draws, mean: float) -> Estimate | None:
    """The interval of a group's difference to a baseline over other classes.

    Of averages over datasets, each dataset's classes are drawn for themselves.

    Args:
        mine, theirs: of the group and the baseline.
        mean: the difference on the classes that were tested.

    Returns:
        None where answers are lacking, nothing is compared, or answers differ nowhere.
    """
    by_seed: dict[int, list[Array]] = {}
    for (cell, seed), draws in mine.items():
        if (cell, seed) in theirs:
            by_seed.setdefault(seed, []).append(draws - theirs[cell, seed])
    means = [np.mean(found, axis=0) for found in by_seed.values()]
    if is_rounding([np.ptp(found) for found in means], _PERCENT):
        return None
    return interval_over_classes(mean, means)


def draws_of(study: Study, metric: str, group: Group, cells: Mapping[str, str]) -> Draws:
    """The mean of the metric in each cell and seed; {} where a finished row lacks answers.

    Args:
        study: whose group it is.
        metric: an H of averages is that of the averages.
        group: in any state.
        cells: setting_key -> companion cell, as in Group.results.
    """
    names = ("seed", "run_id")
    parts = {n: dict(zip(*map(group.parts[n].column, names), strict=True)) for n in group.present}
    found: dict[Place, Array] = {}
    for place, trials in group.results("state" if parts else "run_id", cells).items():
        sums = []
        for trial in trials:
            runs = {name: of[place[1]] for name, of in parts.items()} or {"": trial}
            draws = _draws(study, runs, place[1], metric)
            if draws is None:
                return {}
            sums.append(draws)
        found[place] = np.mean(sums, axis=0)
    return found


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
