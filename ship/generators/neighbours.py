"""Gaussians of classes without pictures, from the pictures of other classes nearest to their names.

Source: Wang et al., arXiv:2402.04087, the base-to-new part of the authors' code (SHIP's authors
too; github.com/mrflogs/ICLR24, main_base2new.py). There they are the discriminant of the new
classes (ship.finetuners.gda); here they can also be drawn from, for any other fine-tuner.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import KnnGaussianConfig
from ship.generators.spread import drawn_around
from ship.tasks import Task, pad_rows
from ship.training import (
    CheckpointError,
    Part,
    ReplicaRng,
    State,
    copied,
    gather_rows,
    taken,
)

# The authors' figures.
NEIGHBOURS = 64
TEXT_COPIES = 16
# Classes whose neighbours are held at once: 33 MB of features of size 512.
_CLASSES_AT_ONCE = 128


def seen_views(task: Task, replica: int) -> Float[Tensor, "n feature"]:
    """All views of a replica's pictures, on the CPU and in double precision."""
    return task.features[replica, : task.counts[replica]].flatten(0, 1).cpu().double()


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


class Moments:
    """What the Gaussians of all classes are made of, of any number of views.

    Attributes:
        views: of a replica's pictures, zeros behind them, (replica, n, feature).
        counts: how many there are, (replica,).
        factor: lower Cholesky factor of the covariance, (replica, feature, feature).
    """

    def __init__(self, views: Sequence[Tensor], factors: Sequence[Tensor], like: Tensor) -> None:
        self.views = pad_rows([rows.to(like.dtype) for rows in views])
        self.counts = torch.tensor([len(rows) for rows in views])
        self.factor = torch.stack(list(factors)).to(like)

    def state_dict(self) -> State:
        """All three, as copies on the CPU."""
        return {name: copied(getattr(self, name)) for name in ("views", "counts", "factor")}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave.

        Raises:
            CheckpointError: views or counts that are none, or a factor of another size.
        """
        n = state["views"].shape[1] if "views" in state and state["views"].ndim == 3 else 0
        views = taken(state, "views", self.views.new_empty(len(self.views), n, self.views.shape[2]))
        counts = taken(state, "counts", self.counts)
        factor = taken(state, "factor", self.factor.cpu())
        if not bool(((counts >= 1) & (counts <= n)).all()):
            raise CheckpointError(f"counts must be from 1 to {n}")
        self.views, self.counts, self.factor = views, counts, factor.to(self.factor.device)


class KnnGaussian:
    """Features drawn from a Gaussian for each class; one covariance for all of them.

    Mean: see neighbour_means. Covariance: the inverse of neighbour_precision over the classes
    without pictures (where there are none, over all classes). It is the authors' estimate for a
    classifier: around the text feature it holds the distance between CLIP's two modalities, too, so
    that features drawn from it are further apart than real ones. `centre: mean` leaves that out.
    """

    epochs = 0
    finished = True

    def __init__(
        self, config: KnnGaussianConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        self.config = config
        self._text = task.text_features
        text, seen = self._text.cpu().double(), task.seen.cpu()
        views = [seen_views(task, replica) for replica in range(task.n_replicas)]
        factors = []
        for rows, own in zip(views, seen, strict=True):
            without = own if bool(own.all()) else ~own
            precision = neighbour_precision(
                rows, text[without], config.neighbours, around_text=config.centre == "text"
            )
            covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
            factors.append(torch.linalg.cholesky(covariance))
        self.moments = Moments(views, factors, task.features)
        self._means: Tensor | None = None

    @property
    def means(self) -> Float[Tensor, "replica n_cls feature"]:
        """Of all classes; found once, when they are first asked for."""
        if self._means is None:
            text, held = self._text.cpu().double(), self.moments
            k, copies = self.config.neighbours, self.config.text_copies
            found = [
                neighbour_means(rows[:count].double(), text, k, copies)
                for rows, count in zip(held.views, held.counts.tolist(), strict=True)
            ]
            self._means = torch.stack(found).to(self._text)
        return self._means

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to fit."""
        return {}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is fitted by epochs."""
        return {}

    def learned(self) -> Mapping[str, Part]:
        """The moments, with the views that a further class's mean is made of."""
        return {"moments": self.moments}

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """The class's mean + L N(0, I), normalised."""
        return drawn_around(gather_rows(self.means, class_ids), self.moments.factor, rng)
