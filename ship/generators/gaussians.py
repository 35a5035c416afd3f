"""Gaussians around text features, with the moments of few-shot features: what SHIP must beat.

Those of the nearest pictures, of other classes, are of Wang et al., arXiv:2402.04087, the
base-to-new part of the authors' code (SHIP's authors too; github.com/mrflogs/ICLR24,
main_base2new.py). There they are the discriminant of the new classes (ship.finetuners.gda); here
they can also be drawn from, for any other fine-tuner.

The moments are fitted on the CPU and in double precision: they are small, fitted once, and so the
same on every device.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import GaussianBaseConfig, GaussianTextConfig, KnnGaussianConfig
from ship.methods import Draw, Features, Generator, Labels, Noise, SeedTask
from ship.methods.stack import plus_product

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
            scale = float(within_class_rows(*real_features(task)).square().mean().sqrt())
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
    """mean + L N(0, I), normalised, of each feature that is drawn; L L^T is the covariance."""
    return F.normalize(plus_product(means, noise, factor.mT), dim=-1)


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


# The authors' figures.
NEIGHBOURS = 64
TEXT_COPIES = 16
# Classes whose neighbours are held at once: 33 MB of features of size 512.
_CLASSES_AT_ONCE = 128


def seen_views(task: SeedTask) -> Float[Tensor, "n feature"]:
    """All views of the pictures, on the CPU and in double precision."""
    return task.features.flatten(0, 1).cpu().double()


def nearest(
    views: Float[Tensor, "n feature"], text: Float[Tensor, "m feature"], k: int
) -> Int[Tensor, "m near"]:
    """Rows of the k views (or all, where there are fewer) with the largest dot product."""
    rows: Tensor = (text @ views.T).topk(min(k, len(views)), dim=1).indices
    return rows


def neighbour_means(
    views: Float[Tensor, "n feature"],
    text: Float[Tensor, "m feature"],
    k: int = NEIGHBOURS,
    copies: int = TEXT_COPIES,
) -> Float[Tensor, "m feature"]:
    """Mean of each class's nearest views and of so many copies of its text feature.

    Args:
        views: of pictures of other classes, unit norm.
        text: the classes' text features, unit norm.
        k: nearest views of a class.
        copies: of its text feature.
    """
    near = nearest(views, text, k)
    sums = torch.stack([views[rows].sum(0) for rows in near])
    return (sums + copies * text) / (near.shape[1] + copies)


def neighbour_precision(
    views: Float[Tensor, "n feature"],
    text: Float[Tensor, "m feature"],
    k: int = NEIGHBOURS,
    *,
    around_text: bool = True,
) -> Float[Tensor, "feature feature"]:
    """Mean over the classes of d ((k - 1) S_c + tr(S_c) I)^-1.

    S_c is the covariance (divided by k - 1) of the class's k nearest views around its text feature;
    d is the size of a feature. Each inverse is that of a matrix of k rows beside the identity
    (Woodbury), so that k x k systems are solved and none of d x d.

    Args:
        views: of pictures of other classes, unit norm.
        text: the classes' text features, unit norm, of one class at least.
        k: nearest views of a class.
        around_text: else S_c is taken around the mean of the views.
    """
    size, near = text.shape[1], nearest(views, text, k)
    total = text.new_zeros(size, size)
    k = near.shape[1]
    for part, names in zip(near.split(_CLASSES_AT_ONCE), text.split(_CLASSES_AT_ONCE), strict=True):
        rows = views[part]
        centres = names if around_text else rows.mean(1)
        apart = rows - centres.unsqueeze(1)
        trace = apart.square().sum((1, 2)) / max(k - 1, 1)
        trace = torch.where(trace > 1e-12, trace, 1.0)  # nothing scatters: the identity times d
        gram = apart @ apart.mT
        gram.diagonal(dim1=1, dim2=2).add_(trace.unsqueeze(1))
        solved = torch.cholesky_solve(apart, torch.linalg.cholesky(gram))
        scale = size / trace
        total.diagonal().add_(scale.sum())
        total -= (scale[:, None, None] * apart).flatten(0, 1).T @ solved.flatten(0, 1)
    return total / len(text)


class KnnGaussian(Generator):
    """Features drawn from a Gaussian for each class; one covariance for all of them.

    Mean: see neighbour_means. Covariance: the inverse of neighbour_precision over the classes
    without pictures (where there are none, over all classes). It is the authors' estimate for a
    classifier: around the text feature it holds the distance between CLIP's two modalities, too, so
    that features drawn from it are further apart than real ones. `centre: mean` leaves that out.

    views: of the pictures, (n, feature). means: of all classes, (n_cls, feature).
    factor: lower Cholesky factor of the covariance, (feature, feature).

    Raises:
        ValueError: there are no views.
    """

    rows = "views"
    views: Tensor
    factor: Tensor
    means: Tensor

    def __init__(
        self, config: KnnGaussianConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self.noise_size = self.text.shape[1]
        views, text = seen_views(task), self.text.cpu().double()
        without = text if bool(task.seen.all()) else text[~task.seen.cpu()]
        precision = neighbour_precision(
            views, without, config.neighbours, around_text=config.centre == "text"
        )
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        factor = torch.linalg.cholesky(covariance)
        self.register_buffer("views", views.to(task.features))
        self.register_buffer("factor", factor.to(task.features))
        self.register_buffer("means", torch.empty(0), persistent=False)

    def settled(self) -> dict[str, Tensor]:
        """The means, which follow from the views also of classes that these know nothing of."""
        views, config = self.views, self.config
        real = views[views.any(dim=1)].cpu().double()  # no zeros, which stand behind fewer views
        if not len(real):
            raise ValueError("there are no views")
        text = self.text.cpu().double()
        means = neighbour_means(real, text, config.neighbours, config.text_copies)
        return {"means": means.to(self.text)}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """The class's mean + L N(0, I), normalised."""
        return drawn_around(self.means[class_ids], self.factor, noise)
