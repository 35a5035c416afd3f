"""Estimate how far differences from the baseline would vary if other classes were tested.

The estimates are computed from the numbers of correct predictions per class that runs store.
The tested classes are resampled with replacement (see reports.stats.classes). Each bootstrap sample
of the classes is a draw; configurations with the same test classes share the draws.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from harness.store import CLASS_ID, EVAL_SET, SEEN, TARGET, name_seed_metric
from reports import stats
from reports.stats import Array, Estimate
from reports.study import Study
from reports.tables.group import Group, PairKey

_SCALE = 100.0  # largest magnitude of an accuracy, to which rounding errors are relative
# Tables with more runs than this have no intervals over classes, because a file has to be read for
# each run, and its classes have to be resampled for each seed. Tables that compare methods over
# several datasets have no limit.
MAX_RUNS = 300


class AccuracySpec(NamedTuple):
    """Definition of an accuracy: which images are classified, and among which classes.

    Attributes:
        kind: Classes to choose among. "all": all classes; "own": those of the image's half (seen
            or unseen).
        seen: Images to classify. True: of seen classes; False: of unseen classes; None: all.
        by_class: Whether the accuracy is averaged over classes. If False, it is over images.
        eval_set: Value of the column EVAL_SET (see harness.store) for these images.
    """

    kind: str
    seen: bool | None = None
    by_class: bool = False
    eval_set: str = ""


_ACCURACIES = {
    "base": AccuracySpec("own", seen=True),
    "new": AccuracySpec("own", seen=False),
    "joint_base": AccuracySpec("all", seen=True),
    "joint_new": AccuracySpec("all", seen=False),
    "seen": AccuracySpec("all", seen=True, by_class=True),
    "unseen": AccuracySpec("all", seen=False, by_class=True),
    "accuracy": AccuracySpec("all"),
    "source": AccuracySpec("all", eval_set="source"),
}


class Resampled(NamedTuple):
    """A metric under each draw of classes.

    Attributes:
        values: Metric under each draw, (DRAWS,).
        n_classes: Number of classes that are resampled. For a harmonic mean or an average, the
            smallest such number among the combined accuracies.
    """

    values: Array
    n_classes: int


# A metric under each draw of classes, by (stratum, seed).
Draws = Mapping[PairKey, Resampled]


class _NoPredictions(Exception):
    """Raised if a metric cannot be computed from the correct predictions that a run stores."""


def compute_difference_over_classes(
    group_draws: Draws, baseline_draws: Draws, mean: float
) -> Estimate | None:
    """Return a group's difference to the baseline, with its interval over other test classes.

    Args:
        group_draws: Metric of the group under each draw; see resample_group.
        baseline_draws: Metric of the baseline under each draw.
        mean: Difference on the tested classes.

    Returns:
        None if the two have no (stratum, seed) in common, for example because correct predictions
        are missing, or if the difference is the same under all draws.
    """
    differences: dict[int, list[Array]] = {}
    for key, draw in group_draws.items():
        if key in baseline_draws:
            _, seed = key
            differences.setdefault(seed, []).append(draw.values - baseline_draws[key].values)
    seed_means = [np.mean(values, axis=0) for values in differences.values()]
    if stats.is_rounding([np.ptp(values) for values in seed_means], _SCALE):
        return None
    return stats.compute_interval_over_classes(mean, seed_means)


def resample_group(study: Study, metric: str, group: Group, strata: Mapping[str, str]) -> Draws:
    """Return a group's metric under each draw of classes, by (stratum, seed).

    Args:
        study: Study of the group.
        metric: Name of the test metric.
        group: The group. If its rows are averages over datasets, so is the metric.
        strata: Stratum by config_key; see Family.

    Returns:
        {} if the group has no runs (external results), or if the metric of any finished row cannot
        be computed from correct predictions.
    """
    runs_by_key = group.trials.results("run_id", strata)
    if not runs_by_key:
        return {}
    if group.parts:  # each row averages the runs of a seed, one per dataset; strata are datasets
        runs_by_seed: dict[int, dict[str, str]] = {
            seed: {} for seed in group.finished_values("seed")
        }
        for (dataset, seed), (run,) in runs_by_key.items():
            if seed in runs_by_seed:
                runs_by_seed[seed][dataset] = run
        averages = {("", seed): [runs] for seed, runs in runs_by_seed.items()}
    else:  # treat each run as an average over one dataset, whose name does not matter
        averages = {key: [{"": run} for run in run_ids] for key, run_ids in runs_by_key.items()}
    try:
        return {
            (stratum, seed): _average_draws(
                [_resample_average(study, runs, seed, metric) for runs in runs_of_key]
            )
            for (stratum, seed), runs_of_key in averages.items()
        }
    except _NoPredictions:
        return {}


def _average_draws(draws: Sequence[Resampled]) -> Resampled:
    """Return the mean of several metrics under each draw."""
    values = np.mean([draw.values for draw in draws], axis=0)
    return Resampled(np.asarray(values), min(draw.n_classes for draw in draws))


def _resample_average(study: Study, runs: Mapping[str, str], seed: int, metric: str) -> Resampled:
    """Return a metric under each draw, averaged over datasets.

    A harmonic mean is computed from the averages of its two halves. Each dataset's classes are
    drawn independently.

    Args:
        study: Study whose protocol defines the metric.
        runs: Run ID by dataset, for each dataset of the average. The name of a single dataset does
            not matter.
        seed: Seed of the models.
        metric: Name of the test metric.

    Raises:
        _NoPredictions: If a run lacks the correct predictions that the metric needs.
    """
    if metric in study.protocol.halves:
        half_a, half_b = (
            _resample_average(study, runs, seed, half) for half in study.protocol.halves[metric]
        )
        total, product = half_a.values + half_b.values, half_a.values * half_b.values
        means = np.where(total > 0, 2 * product / np.maximum(total, 1e-12), 0.0)
        return Resampled(np.asarray(means), min(half_a.n_classes, half_b.n_classes))
    # Datasets with the same class IDs have the same draws. A different permutation of the draws for
    # each dataset makes them independent.
    draws = []
    for dataset, run in runs.items():
        draw = _resample_run(study, run, seed, metric)
        rng = np.random.default_rng([*dataset.encode()])
        draws.append(draw._replace(values=rng.permutation(draw.values)))
    return _average_draws(draws)


class CorrectCounts(NamedTuple):
    """Counts behind an accuracy: correct predictions, test images, and classes to choose among."""

    n_correct: int
    n_images: int
    n_classes: int


def count_correct_predictions(
    study: Study, run: str, seed: int, metric: str
) -> CorrectCounts | None:
    """Count the correct predictions behind an accuracy of one model.

    Args:
        study: The study.
        run: ID of the model's run.
        seed: Seed of the model.
        metric: Name of the test metric.

    Returns:
        The counts. Classes without test images are not counted. None if the metric is not computed
        directly from correct predictions (a harmonic mean is not), or if the run stores none.
    """
    try:
        accuracy, counts, column = _load_counts(study, run, seed, metric)
    except _NoPredictions:
        return None
    all_counts = study.correct_predictions.load(run).filter(pl.col(EVAL_SET) == accuracy.eval_set)
    n_classes = len(counts) if accuracy.kind == "own" else len(all_counts)
    return CorrectCounts(int(counts[column].sum()), int(counts["images"].sum()), n_classes)


def is_computed_from_predictions(study: Study, metric: str) -> bool:
    """Return True if a metric can be computed from correct predictions, if runs store them."""
    return metric in {*_ACCURACIES, *study.protocol.halves, *_list_target_metrics(study)}


def _list_target_metrics(study: Study) -> list[str]:
    """Return the names of cross_dataset's metrics on single target datasets."""
    return [name for name in study.protocol.headings if name.startswith(TARGET)]


def _load_counts(
    study: Study, run: str, seed: int, metric: str
) -> tuple[AccuracySpec, pl.DataFrame, str]:
    """Load the correct predictions behind an accuracy.

    Returns:
        The accuracy's definition; a row of counts per class (see CorrectFiles.load); and the name
        of the column with the number of correct predictions.

    Raises:
        _NoPredictions: If the metric is not computed directly from correct predictions, or if the
            run stores none.
    """
    if metric in _list_target_metrics(study):
        accuracy: AccuracySpec | None = AccuracySpec("all", eval_set=metric)
    else:
        accuracy = _ACCURACIES.get(metric)
    if accuracy is None:
        raise _NoPredictions
    class_filter = pl.lit(True) if accuracy.seen is None else pl.col(SEEN) == accuracy.seen
    counts = study.correct_predictions.load(run).filter(
        class_filter, pl.col(EVAL_SET) == accuracy.eval_set
    )
    column = name_seed_metric(seed, accuracy.kind)
    if counts.is_empty() or column not in counts.columns or counts[column].null_count():
        raise _NoPredictions
    return accuracy, counts, column


def _resample_run(study: Study, run: str, seed: int, metric: str) -> Resampled:
    """Return an accuracy of one model under each draw.

    Raises:
        _NoPredictions: If the run lacks the correct predictions, or has too few classes to
            resample.
    """
    targets = _list_target_metrics(study)
    if metric == "accuracy" and targets:  # cross_dataset: the mean over the target datasets
        return _average_draws([_resample_run(study, run, seed, target) for target in targets])
    accuracy, counts, column = _load_counts(study, run, seed, metric)
    correct, images = (counts[name].cast(pl.Float64).to_numpy() for name in (column, "images"))
    if accuracy.by_class:
        correct, images = correct / images, np.ones_like(images)  # equal weight for each class
    draws = stats.resample_accuracy(accuracy.eval_set, counts[CLASS_ID].to_list(), correct, images)
    if draws is None:
        raise _NoPredictions
    return Resampled(draws, len(counts))
