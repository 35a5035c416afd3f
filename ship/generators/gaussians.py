"""Generators that sample from Gaussians fitted to few-shot features: simple baselines for SHIP.

`GaussianText` and `GaussianBase` transfer means and covariances of the seen classes to all classes.

`KnnGaussian` fits a class's Gaussian to the training images nearest to its text feature, after Wang
et al., arXiv:2402.04087, and the base-to-new part of their code (github.com/mrflogs/ICLR24,
main_base2new.py). Some of these authors also wrote SHIP. In their code the Gaussians serve a
discriminant (ship.finetuners.gda). Here features can also be sampled from them, for any fine-tuner.

Means and covariances are computed on the CPU and in double precision, so they are the same on every
device.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import GaussianBaseConfig, GaussianTextConfig, KnnGaussianConfig
from ship.methods import Draw, Features, Generator, Labels, Noise, SeedTask
from ship.methods.batching import add_product

# Minimum weight of the identity in a covariance. Without the identity, the covariance would be
# singular for fewer images than dimensions.
MIN_SHRINKAGE = 1e-6

# Values of Wang et al.: number of nearest views per class, and number of copies of the text feature
# in the class mean.
NEIGHBORS = 64
TEXT_COPIES = 16
# Number of classes whose neighbors are in memory at once. 64 neighbors per class and their
# deviations are 34 MB each, for features of size 512 in double precision.
_CLASSES_AT_ONCE = 128


class GaussianText(Generator):
    """Samples around the zero-shot text feature of the class.

    If the setting `scale` is null, the scale is fitted: it is the RMS deviation per dimension of
    un-augmented training features from their class means, with n - n_classes degrees of freedom. If
    every class has one image, it is the RMS deviation of (image - text feature) from the mean of
    these differences, with n - 1 degrees of freedom.

    Attributes:
        scale: Standard deviation per dimension, a scalar.

    Raises:
        ValueError: The scale has to be fitted, but there is only one image.
    """

    scale: Tensor

    def __init__(
        self, config: GaussianTextConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        scale = config.scale
        if scale is None:
            contrasts = compute_within_class_contrasts(*get_unaugmented_data(task))
            scale = float(contrasts.square().mean().sqrt())
        self.noise_size = 0 if config.scale == 0 else self.text.shape[1]
        self.register_buffer("scale", task.features.new_tensor(scale))

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Return the text feature + scale * N(0, I), normalized."""
        text = self.text[class_ids]
        return text if noise is None else F.normalize(text + self.scale * noise, dim=-1)


class GaussianBase(Generator):
    """Samples from one Gaussian per class, whose mean and covariance come from the seen classes.

    The mean is text feature + mean over the seen classes of (class mean - text feature). The
    covariance is the pooled within-class covariance of un-augmented training features, shrunk
    towards a multiple of the identity. If every class has one image, it is the covariance of (image
    - text feature). A generator that does not beat this baseline has learned no more than means and
    covariances. LP-DiF (arXiv:2401.01598) also replays features from Gaussians of the classes.

    Attributes:
        shift: Mean of (class mean - text feature), (feature,).
        factor: Lower Cholesky factor of the covariance, (feature, feature).

    Raises:
        ValueError: There is only one image.
    """

    shift: Tensor
    factor: Tensor

    def __init__(
        self, config: GaussianBaseConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self.noise_size = self.text.shape[1]
        data = get_unaugmented_data(task)
        factor = compute_shrunk_cholesky(compute_within_class_contrasts(*data), config.shrinkage)
        self.register_buffer("shift", compute_modality_shift(*data).to(task.features))
        self.register_buffer("factor", factor.to(task.features))

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Return the text feature + shift + L N(0, I), normalized."""
        return sample_around(self.text[class_ids] + self.shift, self.factor, noise)


def compute_modality_shift(
    features: Features, labels: Labels, text_features: Float[Tensor, "n_cls feature"]
) -> Float[Tensor, " feature"]:
    """Return the mean of (class mean - text feature) over the classes that have images.

    Args:
        features: Image features, unit norm.
        labels: Label of each image, an index into text_features.
        text_features: Text features of all classes, unit norm.
    """
    classes, means = _compute_class_means(features, labels)
    return (means - text_features[classes]).mean(0)


def compute_within_class_contrasts(
    features: Features, labels: Labels, text_features: Float[Tensor, "n_cls feature"]
) -> Float[Tensor, "m feature"]:
    """Return n - n_classes vectors r for which mean(r r^T) is the pooled within-class covariance.

    They are the Helmert contrasts of each class's features, and the covariance is the unbiased
    estimate. Unlike residuals, contrasts are uncorrelated: a class of two images has one contrast
    instead of the residuals +r and -r.

    If every class has one image, there is no variation within classes. The result is then n - 1
    contrasts of (image - text feature) over all images, which describe how classes deviate from the
    mean modality shift.

    Args:
        features: Image features, unit norm.
        labels: Label of each image, an index into text_features.
        text_features: Text features of all classes, unit norm.

    Raises:
        ValueError: There is only one image.
    """
    if len(features) < 2:
        n = len(features)
        raise ValueError(f"the generator requires 2 or more training images, got {n}. Raise shots")
    classes, groups = labels.unique(return_inverse=True)
    if len(classes) == len(features):
        features, groups = features - text_features[labels], torch.zeros_like(groups)
    order = groups.argsort(stable=True)
    groups = groups[order]
    _, means = _compute_class_means(features[order], groups)
    residuals = features[order] - means[groups]
    counts = groups.bincount()
    index_in_class = torch.arange(len(groups)) - (counts.cumsum(0) - counts)[groups]
    # Residuals of a whole class sum to 0, so this is the sum of the class's previous residuals.
    previous_sum = residuals.cumsum(0) - residuals
    has_previous = index_in_class > 0
    j = index_in_class[has_previous].to(features.dtype).unsqueeze(1)
    differences = previous_sum[has_previous] - j * residuals[has_previous]
    contrasts: Tensor = differences / (j * (j + 1)).sqrt()
    return contrasts


def compute_shrunk_cholesky(
    vectors: Float[Tensor, "m feature"], shrinkage: float | None
) -> Float[Tensor, "feature feature"]:
    """Return the lower triangular L with L L^T = (1 - s) * covariance + s * variance * identity.

    The covariance is the mean outer product of the vectors, and the variance is its mean diagonal
    element. If the variance is 0, L is 0.

    Args:
        vectors: Vectors with expectation 0.
        shrinkage: s in [0, 1], raised to at least MIN_SHRINKAGE. None estimates it (Ledoit-Wolf),
            or uses 1 for a single vector, for which the estimate is not defined.
    """
    if shrinkage is None:
        shrinkage = 1.0
        if len(vectors) > 1:
            shrinkage = float(ledoit_wolf_shrinkage(vectors.numpy(), assume_centered=True))
    s = max(MIN_SHRINKAGE, shrinkage)
    covariance = vectors.T @ vectors / len(vectors)
    variance = covariance.trace() / len(covariance)
    if variance == 0:
        return covariance
    identity = torch.eye(len(covariance), dtype=vectors.dtype)
    factor: Tensor = torch.linalg.cholesky((1 - s) * covariance + s * variance * identity)
    return factor


def sample_around(
    means: Float[Tensor, "n feature"], factor: Float[Tensor, "feature feature"], noise: Noise
) -> Features:
    """Return mean + L * noise, normalized, for each mean.

    Args:
        means: Mean of each feature to sample.
        factor: Cholesky factor L of the covariance.
        noise: Standard normal noise of each feature.
    """
    return F.normalize(add_product(means, noise, factor.mT), dim=-1)


def get_unaugmented_data(task: SeedTask) -> tuple[Features, Labels, Float[Tensor, "n_cls feature"]]:
    """Return un-augmented image features, their labels, and the text features of all classes.

    They are on the CPU and in double precision. View 0 of each image is the un-augmented one.
    """
    features = task.features[:, 0].cpu().double()
    return features, task.labels.cpu(), task.text_features.cpu().double()


def _compute_class_means(
    features: Features, labels: Labels
) -> tuple[Int[Tensor, " k"], Float[Tensor, "k feature"]]:
    """Return the classes that occur, in ascending order, and the mean of each class."""
    classes, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add(0, index, features)
    return classes, sums / counts.unsqueeze(1)


def get_training_views(task: SeedTask) -> Float[Tensor, "n feature"]:
    """Return all views of the training images, on the CPU and in double precision."""
    return task.features.flatten(0, 1).cpu().double()


def find_nearest(
    views: Float[Tensor, "n feature"], text: Float[Tensor, "m feature"], k: int
) -> Int[Tensor, "m near"]:
    """Return the indices of the k views with the largest dot product with each text feature.

    Args:
        views: Image features, unit norm.
        text: Text features, unit norm.
        k: Number of views per text feature. All views are returned if there are fewer.
    """
    indices: Tensor = (text @ views.T).topk(min(k, len(views)), dim=1).indices
    return indices


def compute_neighbor_means(
    views: Float[Tensor, "n feature"],
    text: Float[Tensor, "m feature"],
    k: int = NEIGHBORS,
    copies: int = TEXT_COPIES,
) -> Float[Tensor, "m feature"]:
    """Return, for each class, the mean of its nearest views and of copies of its text feature.

    Args:
        views: Image features to search, unit norm. They may be those of other classes.
        text: Text features of the classes, unit norm.
        k: Number of nearest views per class. All views are used if there are fewer.
        copies: Number of copies of the text feature.
    """
    nearest = find_nearest(views, text, k)
    sums = torch.stack([views[indices].sum(0) for indices in nearest])
    return (sums + copies * text) / (nearest.shape[1] + copies)


def compute_neighbor_precision(
    views: Float[Tensor, "n feature"],
    text: Float[Tensor, "m feature"],
    k: int = NEIGHBORS,
    *,
    around_text: bool = True,
) -> Float[Tensor, "feature feature"]:
    """Return the mean over the classes of d (D_c^T D_c + tr(S_c) I)^-1.

    The k rows of D_c are the class's nearest views minus its text feature, S_c = D_c^T D_c / (k -
    1) is their covariance, and d is the size of a feature. With k = 1, S_c is D_c^T D_c. Each
    matrix is a multiple of the identity plus a matrix of rank k, so Woodbury's formula reduces the
    inverse to a k x k system.

    Args:
        views: Image features to search, unit norm. They may be those of other classes.
        text: Text features of the classes, at least one, unit norm.
        k: Number of nearest views per class. All views are used if there are fewer.
        around_text: Whether the text feature is subtracted. If False, the mean of the class's
            nearest views is subtracted instead.
    """
    size, nearest = text.shape[1], find_nearest(views, text, k)
    total = text.new_zeros(size, size)
    degrees = max(nearest.shape[1] - 1, 1)
    for indices, text_part in zip(
        nearest.split(_CLASSES_AT_ONCE), text.split(_CLASSES_AT_ONCE), strict=True
    ):
        neighbors = views[indices]
        centers = text_part if around_text else neighbors.mean(1)
        deviations = neighbors - centers.unsqueeze(1)
        trace = deviations.square().sum((1, 2)) / degrees
        trace = torch.where(trace > 1e-12, trace, 1.0)  # without scatter, the result is d * I
        gram = deviations @ deviations.mT
        gram.diagonal(dim1=1, dim2=2).add_(trace.unsqueeze(1))
        solved = torch.cholesky_solve(deviations, torch.linalg.cholesky(gram))
        scale = size / trace
        total.diagonal().add_(scale.sum())
        total -= (scale[:, None, None] * deviations).flatten(0, 1).T @ solved.flatten(0, 1)
    return total / len(text)


class KnnGaussian(Generator):
    """Samples from one Gaussian per class, all with the same covariance.

    The means are those of `compute_neighbor_means`. The covariance is the inverse of
    `compute_neighbor_precision` over the classes without images, or over all classes if all have
    images.

    Wang et al. estimate the covariance around the text feature, for a classifier. It then includes
    the distance between image and text features in CLIP, so sampled features scatter more than real
    ones. The setting `center: mean` excludes this distance.

    Attributes:
        views: Views of the training images, (n, feature).
        means: Means of all classes, (n_cls, feature).
        factor: Lower Cholesky factor of the covariance, (feature, feature).
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
        views, text = get_training_views(task), self.text.cpu().double()
        class_text = text if bool(task.seen.all()) else text[~task.seen.cpu()]
        precision = compute_neighbor_precision(
            views, class_text, config.neighbors, around_text=config.center == "text"
        )
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        factor = torch.linalg.cholesky(covariance)
        self.register_buffer("views", views.to(task.features))
        self.register_buffer("factor", factor.to(task.features))
        self.register_buffer("means", torch.empty(0), persistent=False)

    def precompute(self) -> dict[str, Tensor]:
        """Return the class means, computed from the views and the text features.

        The means are not saved but recomputed, so a loaded model can also sample classes that it
        was not fitted for.

        Raises:
            ValueError: There are no training images.
        """
        is_image = self.views.any(dim=1)  # rows of padding are 0
        views, text = self.views[is_image].cpu().double(), self.text.cpu().double()
        if not len(views):
            raise ValueError("the generator requires training images, got 0. Raise shots")
        means = compute_neighbor_means(views, text, self.config.neighbors, self.config.text_copies)
        return {"means": means.to(self.text)}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Return the class's mean + L N(0, I), normalized."""
        return sample_around(self.means[class_ids], self.factor, noise)
