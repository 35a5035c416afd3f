"""Gaussians of classes without pictures, from the pictures of other classes nearest to their names.

Source: Wang et al., arXiv:2402.04087, the base-to-new part of the authors' code (SHIP's authors
too; github.com/mrflogs/ICLR24, main_base2new.py). There they are the discriminant of the new
classes (ship.finetuners.gda); here they can also be drawn from, for any other fine-tuner.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import KnnGaussianConfig
from ship.generators.gaussians import drawn_around
from ship.methods import Draw, Features, Generator, Labels, Noise
from ship.tasks import SeedTask

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
    views: Float[Tensor, "n feature"], text: Float[Tensor, "m feature"], k: int, copies: int
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
    k: int,
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
