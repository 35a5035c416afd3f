"""Moments of few-shot features: modality shift, spread within classes, shrunk covariance.

Fitted replica by replica, on the CPU and in double precision: they are small, fitted once, and so
the same on every device.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.tasks import Task
from ship.training import ReplicaRng, gather_rows

# Least weight of the identity in a covariance: with fewer pictures than dimensions it is singular.
LEAST_SHRINKAGE = 1e-6


def modality_shift(
    features: Float[Tensor, "n feature"],
    labels: Int[Tensor, " n"],
    text_features: Float[Tensor, "n_cls feature"],
) -> Float[Tensor, " feature"]:
    """Mean over the classes that have pictures of (class mean - text feature).

    Args:
        features: of pictures, unit norm.
        labels: places among the rows of text_features.
        text_features: of every class, unit norm.
    """
    classes, means = _class_means(features, labels)
    return (means - text_features[classes]).mean(0)


def within_class_rows(
    features: Float[Tensor, "n feature"],
    labels: Int[Tensor, " n"],
    text_features: Float[Tensor, "n_cls feature"],
) -> Float[Tensor, "m feature"]:
    """Independent rows of mean 0 that have the covariance within classes, m = n - n_classes.

    Helmert contrasts of each class's rows: their mean outer product is the pooled covariance,
    unbiased, and no pair of pictures is counted twice (as residuals +r and -r would be).
    Where every class has one picture, nothing varies within them; the rows are then contrasts of
    (picture - text feature) over all pictures: how a class departs from the mean modality shift.

    Args:
        features: of pictures, unit norm.
        labels: places among the rows of text_features.
        text_features: of every class, unit norm.

    Raises:
        ValueError: a single picture.
    """
    if len(features) < 2:
        raise ValueError(f"needs at least 2 training pictures, got {len(features)}")
    classes, groups = labels.unique(return_inverse=True)
    if len(classes) == len(features):
        features, groups = features - text_features[labels], torch.zeros_like(groups)
    order = groups.argsort(stable=True)
    groups = groups[order]
    _, means = _class_means(features[order], groups)
    residuals = features[order] - means[groups]
    counts = groups.bincount()
    place = torch.arange(len(groups)) - (counts.cumsum(0) - counts)[groups]
    # residuals of a class sum to 0, so that the running sum is that of the class's rows before
    before = residuals.cumsum(0) - residuals
    later = place > 0
    j = place[later].to(features.dtype).unsqueeze(1)
    rows: Tensor = (before[later] - j * residuals[later]) / (j * (j + 1)).sqrt()
    return rows


def isotropic_scale(rows: Float[Tensor, "m feature"]) -> float:
    """RMS deviation per dimension."""
    return float(rows.square().mean().sqrt())


def ledoit_wolf(rows: Float[Tensor, "m feature"]) -> float:
    """Best weight of mean variance * identity in a covariance (Ledoit and Wolf 2004).

    Args:
        rows: of mean 0, m >= 1.

    Returns:
        Between 0 and 1; 1 for a single row, of which no covariance can be told.
    """
    m, dim = rows.shape
    if m == 1:
        return 1.0
    covariance = rows.T @ rows / m
    mean_variance = covariance.trace() / dim
    distance = covariance.square().sum() - dim * mean_variance**2
    error = (rows.square().sum(1).square().sum() / m - covariance.square().sum()) / m
    return float((error / distance).clamp(0, 1)) if distance > 0 else 1.0


def shrunk_cholesky(
    rows: Float[Tensor, "m feature"], shrinkage: float | None
) -> Float[Tensor, "feature feature"]:
    """Lower L with L L^T = (1 - s) * covariance of the rows + s * mean variance * identity.

    Args:
        rows: of mean 0.
        shrinkage: s in [0, 1] (at least 1e-6 is applied); None: Ledoit-Wolf's.
    """
    s = max(LEAST_SHRINKAGE, ledoit_wolf(rows) if shrinkage is None else shrinkage)
    covariance = rows.T @ rows / len(rows)
    variance = covariance.trace() / len(covariance)
    if variance == 0:
        return covariance
    identity = torch.eye(len(covariance), dtype=rows.dtype)
    factor: Tensor = torch.linalg.cholesky((1 - s) * covariance + s * variance * identity)
    return factor


def drawn_around(
    means: Float[Tensor, "replica n feature"],
    factor: Float[Tensor, "replica feature feature"],
    rng: ReplicaRng,
) -> Float[Tensor, "replica n feature"]:
    """mean + L N(0, I), normalised.

    Args:
        means: of each feature that is drawn.
        factor: L, of each replica's covariance L L^T.
        rng: a stream for each replica.
    """
    noise = rng.normal(*means.shape[1:])
    return F.normalize(torch.baddbmm(means, noise, factor.mT), dim=-1)


def real_features(
    task: Task, replica: int
) -> tuple[Float[Tensor, "n feature"], Int[Tensor, " n"], Float[Tensor, "n_cls feature"]]:
    """A replica's un-augmented features, their labels, and the text features of all classes."""
    n = task.counts[replica]
    features = task.features[replica, :n, 0].cpu().double()
    return features, task.labels[replica, :n].cpu(), task.text_features.cpu().double()


def _class_means(
    features: Float[Tensor, "n feature"], labels: Int[Tensor, " n"]
) -> tuple[Int[Tensor, " k"], Float[Tensor, "k feature"]]:
    """The classes that occur, ascending, and the mean of each one's rows."""
    classes, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add(0, index, features)
    return classes, sums / counts.unsqueeze(1)


def class_means(
    features: Float[Tensor, "replica m view feature"],
    first: Int[Tensor, "replica n_cls"],
    count: Int[Tensor, "replica n_cls"],
) -> Float[Tensor, "replica n_cls feature"]:
    """Mean of each class's pictures in all views; 0 of a class without any."""
    sums = F.pad(features.mean(2).cumsum(1), (0, 0, 1, 0))
    total = gather_rows(sums, first + count) - gather_rows(sums, first)
    return total / count.clamp_min(1).unsqueeze(-1)
