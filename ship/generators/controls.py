"""Controls: what a generator must beat (text features, Gaussians) and cannot (real pictures)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import GaussianBaseConfig, GaussianTextConfig, RealPicturesConfig
from ship.generators.spread import (
    class_means,
    drawn_around,
    isotropic_scale,
    modality_shift,
    real_features,
    shrunk_cholesky,
    within_class_rows,
)
from ship.tasks import Task
from ship.training import Part, ReplicaRng, gather_rows, random_views


class GaussianText:
    """Features drawn around the zero-shot text feature of the class.

    The fitted scale is a replica's RMS deviation per dimension of un-augmented training features
    from their class means, unbiased (n - n_classes); where every class has one picture, that of
    (picture - text feature) from its mean (n - 1).

    Raises:
        ValueError: a scale is to be fitted to a single picture.
    """

    epochs = 0
    finished = True

    def __init__(
        self, config: GaussianTextConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        self.config = config
        self._text_features = task.text_features
        scales = [config.scale] * task.n_replicas
        if config.scale is None:
            replicas = range(task.n_replicas)
            scales = [isotropic_scale(within_class_rows(*real_features(task, r))) for r in replicas]
        self.scale = task.features.new_tensor(scales)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to fit."""
        return {}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is fitted by epochs."""
        return {}

    def learned(self) -> Mapping[str, Part]:
        """The fitted scale."""
        return {"scale": self.scale}

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Text feature + scale * N(0, I), normalised."""
        text = self._text_features[class_ids]
        if self.config.scale == 0:
            return text
        noise = rng.normal(class_ids.shape[1], text.shape[-1])
        return F.normalize(text + self.scale[:, None, None] * noise, dim=-1)


class GaussianBase:
    """Features as a Gaussian carries them over from the seen classes to the others.

    Mean: text feature + mean over the seen classes of (class mean - text feature). Covariance: that
    of un-augmented training features within their classes, pooled and shrunk towards isotropy;
    where every class has one picture, that of (picture - text feature). What SHIP must beat to have
    learned more than two moments (LP-DiF's critique).

    Attributes:
        shift: (replica, feature).
        factor: lower Cholesky factor of the covariance, (replica, feature, feature).

    Raises:
        ValueError: a covariance is to be fitted to a single picture.
    """

    epochs = 0
    finished = True

    def __init__(
        self, config: GaussianBaseConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        self._text_features = task.text_features
        fitted = [real_features(task, replica) for replica in range(task.n_replicas)]
        self.shift = torch.stack([modality_shift(*rows) for rows in fitted]).to(task.features)
        factors = [shrunk_cholesky(within_class_rows(*rows), config.shrinkage) for rows in fitted]
        self.factor = torch.stack(factors).to(task.features)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to fit."""
        return {}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is fitted by epochs."""
        return {}

    def learned(self) -> Mapping[str, Part]:
        """The fitted moments."""
        return {"shift": self.shift, "factor": self.factor}

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Text feature + shift + L N(0, I), normalised."""
        mean = self._text_features[class_ids] + self.shift.unsqueeze(1)
        return drawn_around(mean, self.factor, rng)


class RealPictures:
    """Features of real training pictures of the new classes: the ceiling of any generator.

    Under a dose d with the spread s, a feature x of a class with the mean m (of its pictures in all
    views) becomes (1 - d) m + d a + s (x - m), normalised; a is the class's text feature or a
    random unit vector.
    """

    epochs = 0
    finished = True

    def __init__(
        self, config: RealPicturesConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        self._features = task.unseen_features
        self._first = task.unseen_first
        self._count = task.unseen_count
        self._spread = config.spread
        self._moved: tuple[Tensor, Tensor] | None = None
        if config.dose or config.spread != 1:
            means = class_means(self._features, self._first, self._count)
            place = task.text_features.expand_as(means)
            if config.toward == "noise":
                directions = ReplicaRng(seeds, "real/directions", clip.device, means.dtype)
                place = F.normalize(directions.normal(*means.shape[1:]), dim=-1)
            self._moved = means, torch.lerp(means, place, config.dose)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to fit."""
        return {}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is fitted by epochs."""
        return {}

    def learned(self) -> None:
        """Nothing: it draws pictures."""

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Pictures of the class's few-shot draw, each in a random view.

        Of a class that is asked for several times, its pictures in turn from a random one on: all
        of them come before any comes again.
        """
        first = self._first.gather(1, class_ids)
        count = self._count.gather(1, class_ids)
        where, before = _occurrences(class_ids)
        starts = rng.integers(2**31 - 1, class_ids.shape[1]).gather(1, where)
        drawn = random_views(self._features, first + (starts + before) % count, rng)
        if self._moved is None:
            return drawn
        means, moved = (gather_rows(rows, class_ids) for rows in self._moved)
        return F.normalize(moved + self._spread * (drawn - means), dim=-1)


def _occurrences(
    ids: Int[Tensor, "replica n"],
) -> tuple[Int[Tensor, "replica n"], Int[Tensor, "replica n"]]:
    """Of each id, where it came first in its row, and how many times it has come before."""
    order = ids.argsort(dim=1, stable=True)
    ordered = ids.gather(1, order)
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = torch.where(begins, places, 0).cummax(1).values
    empty = torch.empty_like(ids)
    where = empty.scatter(1, order, order.gather(1, starts))
    return where, empty.scatter(1, order, places - starts)
