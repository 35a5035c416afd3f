"""Gaussians around text features, with the moments of few-shot features: what SHIP must beat.

The moments are fitted on the CPU and in double precision: they are small, fitted once, and so the
same on every device.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import GaussianBaseConfig, GaussianTextConfig
from ship.methods import Draw, Features, Generator, Labels, Noise, folded
from ship.tasks import SeedTask

# Least weight of the identity in a covariance: with fewer pictures than dimensions it is singular.
LEAST_SHRINKAGE = 1e-6


class GaussianText(Generator):
    """Features drawn around the zero-shot text feature of the class.

    The fitted scale is the RMS deviation per dimension of un-augmented training features from their
    class means, unbiased (n - n_classes); where every class has one picture, that of (picture -
    text feature) from its mean (n - 1).

    Raises:
        ValueError: a scale is to be fitted to a single picture.
    """

    scale: Tensor

    def __init__(
        self, config: GaussianTextConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        scale = config.scale
        if scale is None:
            scale = isotropic_scale(within_class_rows(*real_features(task)))
        self.noise_size = 0 if config.scale == 0 else self.text.shape[1]
        self.register_buffer("scale", task.features.new_tensor(scale))

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Text feature + scale * N(0, I), normalised."""
        text = self.text[class_ids]
        return text if noise is None else F.normalize(text + self.scale * noise, dim=-1)


class GaussianBase(Generator):
    """Features as a Gaussian carries them over from the seen classes to the others.

    Mean: text feature + mean over the seen classes of (class mean - text feature). Covariance: that
    of un-augmented training features within their classes, pooled and shrunk towards isotropy;
    where every class has one picture, that of (picture - text feature). What SHIP must beat to have
    learned more than two moments (LP-DiF's critique).

    shift: (feature,). factor: lower Cholesky factor of the covariance, (feature, feature).

    Raises:
        ValueError: a covariance is to be fitted to a single picture.
    """

    shift: Tensor
    factor: Tensor

    def __init__(
        self, config: GaussianBaseConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self.noise_size = self.text.shape[1]
        rows = real_features(task)
        factor = shrunk_cholesky(within_class_rows(*rows), config.shrinkage)
        self.register_buffer("shift", modality_shift(*rows).to(task.features))
        self.register_buffer("factor", factor.to(task.features))

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Text feature + shift + L N(0, I), normalised."""
        return drawn_around(self.text[class_ids] + self.shift, self.factor, noise)


def modality_shift(
    features: Features, labels: Labels, text_features: Float[Tensor, "n_cls feature"]
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
    features: Features, labels: Labels, text_features: Float[Tensor, "n_cls feature"]
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


def shrunk_cholesky(
    rows: Float[Tensor, "m feature"], shrinkage: float | None
) -> Float[Tensor, "feature feature"]:
    """Lower L with L L^T = (1 - s) * covariance of the rows + s * mean variance * identity.

    Args:
        rows: of mean 0.
        shrinkage: s in [0, 1] (at least 1e-6 is applied); None: Ledoit-Wolf's.
    """
    if shrinkage is None:
        # of a single row no covariance can be told
        best = ledoit_wolf_shrinkage(rows.numpy(), assume_centered=True) if len(rows) > 1 else 1
        shrinkage = float(best)
    s = max(LEAST_SHRINKAGE, shrinkage)
    covariance = rows.T @ rows / len(rows)
    variance = covariance.trace() / len(covariance)
    if variance == 0:
        return covariance
    identity = torch.eye(len(covariance), dtype=rows.dtype)
    factor: Tensor = torch.linalg.cholesky((1 - s) * covariance + s * variance * identity)
    return factor


def drawn_around(
    means: Float[Tensor, "n feature"], factor: Float[Tensor, "feature feature"], noise: Noise
) -> Features:
    """mean + L N(0, I), normalised.

    Args:
        means: of each feature that is drawn.
        factor: L, of the covariance L L^T.
        noise: standard normal.
    """
    return F.normalize(_plus_product(means, noise, factor.mT), dim=-1)


_plus_product = folded(torch.baddbmm)


def real_features(task: SeedTask) -> tuple[Features, Labels, Float[Tensor, "n_cls feature"]]:
    """The un-augmented features, their labels, and the text features of all classes."""
    features = task.features[:, 0].cpu().double()
    return features, task.labels.cpu(), task.text_features.cpu().double()


def _class_means(
    features: Features, labels: Labels
) -> tuple[Int[Tensor, " k"], Float[Tensor, "k feature"]]:
    """The classes that occur, ascending, and the mean of each one's rows."""
    classes, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add(0, index, features)
    return classes, sums / counts.unsqueeze(1)
