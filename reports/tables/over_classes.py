"""Differences over other test classes, from the right answers that the runs keep."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from harness.store import CLASS_ID, EXAM, SEEN, TARGET, seed_metric
from reports import stats
from reports.stats import Array, Estimate
from reports.study import Study
from reports.tables.groups import Group, Place

_PERCENT = 100.0
# A file is read for each run of a table, and each seed's classes are drawn again.
MOST_RUNS = 300


class Share(NamedTuple):
    """How an accuracy follows from the right answers.

    kind: of the answers. seen: of which classes; None: of all.
    by_class: whether it averages the classes' accuracies, not the pictures'.
    exam: whose pictures.
    """

    kind: str
    seen: bool | None = None
    by_class: bool = False
    exam: str = ""


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


class Drawn(NamedTuple):
    """A metric under each draw of classes, and how many classes are behind it.

    Of an H the number is that of the half with fewer classes, of an average that of the least.
    """

    values: Array
    n_classes: int


# of each place; no place where the metric is unknown
Draws = Mapping[Place, Drawn]


class _Unanswered(Exception):
    """The metric does not follow from the right answers that a run keeps."""


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
            by_seed.setdefault(seed, []).append(draws.values - theirs[cell, seed].values)
    means = [np.mean(found, axis=0) for found in by_seed.values()]
    if stats.is_rounding([np.ptp(found) for found in means], _PERCENT):
        return None
    return stats.interval_over_classes(mean, means)


def draws_of(study: Study, metric: str, group: Group, cells: Mapping[str, str]) -> Draws:
    """The mean of the metric in each cell and seed; {} where a finished row lacks answers.

    Args:
        study: whose group it is.
        metric: an H of averages is that of the averages.
        group: in any state; of averages, with the parts that they are over.
        cells: see Family.
    """
    runs = group.trials.results("run_id", cells)
    models = {place: [{"": run} for run in found] for place, found in runs.items()}
    if group.parts:  # each seed's models, one a dataset, that its row is the average of
        models = {("", seed): [{}] for seed in group.known("seed")}
        for (dataset, seed), (run,) in runs.items():
            if ("", seed) in models:
                models["", seed][0][dataset] = run
    try:
        return {
            place: _averaged([_draws(study, one, place[1], metric) for one in found])
            for place, found in models.items()
        }
    except _Unanswered:
        return {}


def _averaged(found: Sequence[Drawn]) -> Drawn:
    """Return the mean of a metric over models, datasets or targets."""
    values = np.mean([one.values for one in found], axis=0)
    return Drawn(np.asarray(values), min(one.n_classes for one in found))


def _draws(study: Study, runs: Mapping[str, str], seed: int, metric: str) -> Drawn:
    """A metric under each draw, averaged over datasets.

    Args:
        study: whose metric it is; an H is that of the averages.
        runs: dataset -> the run of the one model trained on it; a single run under any name.
        seed: of the models.
        metric: name of the test metric.
    """
    if metric in study.protocol.halves:
        one, other = (_draws(study, runs, seed, half) for half in study.protocol.halves[metric])
        total, product = one.values + other.values, one.values * other.values
        means = np.where(total > 0, 2 * product / np.maximum(total, 1e-12), 0.0)
        return Drawn(np.asarray(means), min(one.n_classes, other.n_classes))
    # datasets that number their classes alike have been given the same draws: in another order each
    found = []
    for name, run in runs.items():
        drawn = _of_run(study, run, seed, metric)
        order = np.random.default_rng([*name.encode()])
        found.append(drawn._replace(values=order.permutation(drawn.values)))
    return _averaged(found)


class RightAnswers(NamedTuple):
    """How many test images a model got right, of how many, and how many classes competed."""

    right: int
    images: int
    classes: int


def right_answers(study: Study, run: str, seed: int, metric: str) -> RightAnswers | None:
    """Return the right answers behind an accuracy of one model.

    Args:
        study: The study.
        run: ID of the model's run.
        seed: Seed of the model.
        metric: Name of the test metric.

    Returns:
        None if the metric is no accuracy, or if the run keeps no answers. Classes without any test
        image are not counted.
    """
    try:
        share, counts, column = _answered(study, run, seed, metric)
    except _Unanswered:
        return None
    exam = study.hits.of(run).filter(pl.col(EXAM) == share.exam)
    classes = len(counts) if share.kind == "own" else len(exam)
    return RightAnswers(int(counts[column].sum()), int(counts["pictures"].sum()), classes)


def has_answers(study: Study, metric: str) -> bool:
    """Return True if a metric follows from the right answers that runs keep."""
    return metric in {*_SHARES, *study.protocol.halves, *_targets(study)}


def _targets(study: Study) -> list[str]:
    return [name for name in study.protocol.headings if name.startswith(TARGET)]


def _answered(study: Study, run: str, seed: int, metric: str) -> tuple[Share, pl.DataFrame, str]:
    """Return what an accuracy is of, a row per class, and the column with the right answers.

    Raises:
        _Unanswered: The metric is no accuracy, or the run keeps no answers.
    """
    share = Share("all", exam=metric) if metric in _targets(study) else _SHARES.get(metric)
    if share is None:
        raise _Unanswered
    own = pl.lit(True) if share.seen is None else pl.col(SEEN) == share.seen
    counts = study.hits.of(run).filter(own, pl.col(EXAM) == share.exam)
    column = seed_metric(seed, share.kind)
    if counts.is_empty() or column not in counts.columns or counts[column].null_count():
        raise _Unanswered
    return share, counts, column


def _of_run(study: Study, run: str, seed: int, metric: str) -> Drawn:
    """An accuracy of one model under each draw."""
    if metric == "accuracy" and (targets := _targets(study)):
        return _averaged([_of_run(study, run, seed, target) for target in targets])
    share, counts, column = _answered(study, run, seed, metric)
    right, pictures = (counts[name].cast(pl.Float64).to_numpy() for name in (column, "pictures"))
    if share.by_class:
        right, pictures = right / pictures, np.ones_like(pictures)
    draws = stats.resampled(share.exam, counts[CLASS_ID].to_list(), right, pictures)
    if draws is None:  # of too few classes
        raise _Unanswered
    return Drawn(draws, len(counts))
