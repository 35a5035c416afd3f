"""Intervals of differences over other test classes, from the correct answers that runs store."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from harness.store import CLASS_ID, EVAL_SET, SEEN, TARGET, seed_metric
from reports import stats
from reports.stats import Array, Estimate
from reports.study import Study
from reports.tables.group import Group, PairKey

_PERCENT = 100.0
# A table of more runs has no intervals over classes, unless it compares methods over datasets: each
# run has a file to read, and its classes are resampled for each seed.
MAX_RUNS = 300


class Share(NamedTuple):
    """Definition of an accuracy as a share of correct answers.

    Attributes:
        kind: Classes to choose among: "all", or only the image's "own" half (seen or unseen).
        seen: Classes of the test images: True for seen, False for unseen, None for all.
        by_class: Whether the accuracy is a mean over classes instead of images.
        eval_set: Name of the evaluation set with the images.
    """

    kind: str
    seen: bool | None = None
    by_class: bool = False
    eval_set: str = ""


_SHARES = {
    "base": Share("own", seen=True),
    "new": Share("own", seen=False),
    "joint_base": Share("all", seen=True),
    "joint_new": Share("all", seen=False),
    "seen": Share("all", seen=True, by_class=True),
    "unseen": Share("all", seen=False, by_class=True),
    "accuracy": Share("all"),
    "source": Share("all", eval_set="source"),
}


class Resampled(NamedTuple):
    """A metric under each draw of classes, and the number of classes behind it.

    Attributes:
        values: Metric under each draw.
        n_classes: Number of classes; for an H that of the smaller half, for an average the
            smallest.
    """

    values: Array
    n_classes: int


# metric under each draw, by place
Draws = Mapping[PairKey, Resampled]


class _Unanswered(Exception):
    """Raised if a metric cannot be computed from the correct answers that a run stores."""


def difference_over_classes(
    group_draws: Draws, baseline_draws: Draws, mean: float
) -> Estimate | None:
    """Return the interval of a group's difference to a baseline over other classes.

    For averages over datasets, the classes of each dataset are drawn separately.

    Args:
        group_draws: Draws of the group.
        baseline_draws: Draws of the baseline.
        mean: Difference on the tested classes.

    Returns:
        None if answers are missing, if the groups share no place, or if the difference is the same
        under all draws.
    """
    by_seed: dict[int, list[Array]] = {}
    for place, draw in group_draws.items():
        if place in baseline_draws:
            _, seed = place
            by_seed.setdefault(seed, []).append(draw.values - baseline_draws[place].values)
    means = [np.mean(values, axis=0) for values in by_seed.values()]
    if stats.is_rounding([np.ptp(values) for values in means], _PERCENT):
        return None
    return stats.interval_over_classes(mean, means)


def resample_group(study: Study, metric: str, group: Group, strata: Mapping[str, str]) -> Draws:
    """Return a group's metric under each draw, by place; {} if a finished row has no answers.

    Args:
        study: Study of the group.
        metric: Name of the metric. The H of averages is computed from the average accuracies.
        group: Rows in any state. A group of averages has the averaged datasets as its parts.
        strata: Strata; see Family.
    """
    runs = group.trials.results("run_id", strata)
    if not runs:  # external results have no runs
        return {}
    models = {place: [{"": run} for run in run_ids] for place, run_ids in runs.items()}
    if group.parts:  # the row of a seed averages one model per dataset
        models = {("", seed): [{}] for seed in group.finished_values("seed")}
        for (dataset, seed), (run,) in runs.items():
            if ("", seed) in models:
                models["", seed][0][dataset] = run
    try:
        return {
            place: _average_draws(
                [_draws_of_model(study, model, place[1], metric) for model in place_models]
            )
            for place, place_models in models.items()
        }
    except _Unanswered:
        return {}


def _average_draws(draws: Sequence[Resampled]) -> Resampled:
    """Return the mean of a metric over models, datasets or targets."""
    values = np.mean([draw.values for draw in draws], axis=0)
    return Resampled(np.asarray(values), min(draw.n_classes for draw in draws))


def _draws_of_model(study: Study, runs: Mapping[str, str], seed: int, metric: str) -> Resampled:
    """Return a metric under each draw, averaged over datasets.

    An H is computed from the averages of its two halves.

    Args:
        study: Study with the protocol of the metric.
        runs: Run of the model that was trained on each dataset, by the dataset's name. A single run
            may have any name.
        seed: Seed of the models.
        metric: Name of the test metric.
    """
    if metric in study.protocol.halves:
        first, second = (
            _draws_of_model(study, runs, seed, half) for half in study.protocol.halves[metric]
        )
        total, product = first.values + second.values, first.values * second.values
        means = np.where(total > 0, 2 * product / np.maximum(total, 1e-12), 0.0)
        return Resampled(np.asarray(means), min(first.n_classes, second.n_classes))
    # Datasets with the same class IDs get the same draws. A different order for each dataset makes
    # them independent.
    draws = []
    for name, run in runs.items():
        draw = _draws_of_run(study, run, seed, metric)
        order = np.random.default_rng([*name.encode()])
        draws.append(draw._replace(values=order.permutation(draw.values)))
    return _average_draws(draws)


class CorrectAnswers(NamedTuple):
    """Numbers of correct answers, of test images, and of classes that the model chooses among."""

    n_correct: int
    n_images: int
    n_classes: int


def count_correct_answers(study: Study, run: str, seed: int, metric: str) -> CorrectAnswers | None:
    """Count the correct answers behind an accuracy of one model.

    Args:
        study: The study.
        run: ID of the model's run.
        seed: Seed of the model.
        metric: Name of the test metric.

    Returns:
        None if the metric is not an accuracy, or if the run stores no answers. Classes without any
        test image are not counted.
    """
    try:
        share, counts, column = _read_answers(study, run, seed, metric)
    except _Unanswered:
        return None
    eval_set = study.correct_predictions.load(run).filter(pl.col(EVAL_SET) == share.eval_set)
    classes = len(counts) if share.kind == "own" else len(eval_set)
    return CorrectAnswers(int(counts[column].sum()), int(counts["images"].sum()), classes)


def has_answers(study: Study, metric: str) -> bool:
    """Return True if a metric can be computed from the correct answers that runs store."""
    return metric in {*_SHARES, *study.protocol.halves, *_target_metrics(study)}


def _target_metrics(study: Study) -> list[str]:
    """Return the metrics of single target datasets."""
    return [name for name in study.protocol.headings if name.startswith(TARGET)]


def _read_answers(
    study: Study, run: str, seed: int, metric: str
) -> tuple[Share, pl.DataFrame, str]:
    """Return an accuracy's definition, a row per class, and the column of correct answers.

    Raises:
        _Unanswered: If the metric is not an accuracy, or if the run stores no answers.
    """
    share = (
        Share("all", eval_set=metric) if metric in _target_metrics(study) else _SHARES.get(metric)
    )
    if share is None:
        raise _Unanswered
    has_class = pl.lit(True) if share.seen is None else pl.col(SEEN) == share.seen
    counts = study.correct_predictions.load(run).filter(
        has_class, pl.col(EVAL_SET) == share.eval_set
    )
    column = seed_metric(seed, share.kind)
    if counts.is_empty() or column not in counts.columns or counts[column].null_count():
        raise _Unanswered
    return share, counts, column


def _draws_of_run(study: Study, run: str, seed: int, metric: str) -> Resampled:
    """Return an accuracy of one model under each draw."""
    if metric == "accuracy" and (targets := _target_metrics(study)):
        return _average_draws([_draws_of_run(study, run, seed, target) for target in targets])
    share, counts, column = _read_answers(study, run, seed, metric)
    correct, images = (counts[name].cast(pl.Float64).to_numpy() for name in (column, "images"))
    if share.by_class:
        correct, images = correct / images, np.ones_like(images)
    draws = stats.resample_accuracy(share.eval_set, counts[CLASS_ID].to_list(), correct, images)
    if draws is None:  # too few classes
        raise _Unanswered
    return Resampled(draws, len(counts))
