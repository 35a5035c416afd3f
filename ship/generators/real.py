"""Real pictures of the classes without pictures: what no generator can beat.

An oracle and no method: it sees what no method may, and so is not written for one seed's task,
which does not hold these pictures.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ship.clip import FrozenCLIP
from ship.configs.generators import RealPicturesConfig
from ship.generators.source import FeatureSource
from ship.tasks import Task
from ship.training import ReplicaRng, gather_rows, random_views


class RealPictures(FeatureSource):
    """Features of real training pictures of the new classes: the ceiling of any generator.

    Under a dose d with the spread s, a feature x of a class with the mean m (of its pictures in all
    views) becomes (1 - d) m + d a + s (x - m), normalised; a is the class's text feature or a
    random unit vector.
    """

    def __init__(
        self, config: RealPicturesConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        pictures, n_cls = task.unseen(), len(task.class_names)
        self._features = pad_sequence([own.features for own in pictures], batch_first=True)
        self._count = torch.stack([own.labels.bincount(minlength=n_cls) for own in pictures])
        self._first = self._count.cumsum(1) - self._count
        self._spread = config.spread
        self._moved: tuple[Tensor, Tensor] | None = None
        if config.dose or config.spread != 1:
            means = _class_means(self._features, self._first, self._count)
            place = task.text_features.expand_as(means)
            if config.toward == "noise":
                directions = ReplicaRng(seeds, "real/directions", clip.device, means.dtype)
                place = F.normalize(directions.normal(*means.shape[1:]), dim=-1)
            self._moved = means, torch.lerp(means, place, config.dose)

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


def _class_means(
    features: Float[Tensor, "replica m view feature"],
    first: Int[Tensor, "replica n_cls"],
    count: Int[Tensor, "replica n_cls"],
) -> Float[Tensor, "replica n_cls feature"]:
    """Mean of each class's pictures in all views; 0 of a class without any."""
    sums = F.pad(features.mean(2).cumsum(1), (0, 0, 1, 0))
    total = gather_rows(sums, first + count) - gather_rows(sums, first)
    return total / count.clamp_min(1).unsqueeze(-1)
