"""Where synthetic features come from: generators of all seeds, real pictures; who draws them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ship.clip import FrozenCLIP
from ship.configs.generators import RealPicturesConfig
from ship.replicas import ReplicaRng, gather_rows, random_views
from ship.state import Part
from ship.tasks import Task
from ship.trial_config import SyntheticConfig

# Of the places from which a mixture counts its real pictures: as good as a continuum.
_STARTS: Final = 2**30


class FeatureSource:
    """Class ids -> unit-norm features, of all seeds; by itself it is not fitted.

    epochs: passes over the real features that train_epoch should be called for (0: nothing to fit).
    """

    epochs: int = 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing to fit, or every seed has stopped early."""
        return self.epochs == 0

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Train one epoch; mean losses (and what else is worth a curve) by name.

        A seed that has stopped early keeps its best parameters, whatever the others still do.
        """
        return {}

    def give_up(self, places: Sequence[int]) -> None:
        """Wait no longer for some replicas to stop early; their state may have been replaced.

        Args:
            places: Places of the replicas that have failed.
        """

    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """One unit-norm feature for every class id; no gradient."""
        raise NotImplementedError

    def parts(self) -> Mapping[str, Part]:
        """What fitting changes (ship.state); {}: nothing is fitted by epochs."""
        return {}

    def learned(self) -> Mapping[str, Part] | None:
        """What sample() reads beside the backbone and the classes, (replica, ...) each.

        One that is built again with this put back draws the same features. None: it draws
        pictures, which no state stands for.
        """
        return None


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


class MixedWithReal(FeatureSource):
    """A generator's features, a share of each class's replaced by real pictures: a dose of them.

    The places of the real ones are evenly spaced among a class's features from a random start on:
    of n that are asked for at once, share * n are real, rounded up or down at random.
    """

    def __init__(
        self,
        made: FeatureSource,
        share: float,
        task: Task,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self._made, self._share, self.epochs = made, share, made.epochs
        self._real = RealPictures(RealPicturesConfig(), task, clip, seeds)

    @property
    def finished(self) -> bool:
        """Whether the generator's fit is over."""
        return self._made.finished

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One of the generator's."""
        return self._made.train_epoch()

    def give_up(self, places: Sequence[int]) -> None:
        """See FeatureSource.give_up."""
        self._made.give_up(places)

    def parts(self) -> Mapping[str, Part]:
        """What fitting the generator changes."""
        return self._made.parts()

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """A feature of the generator, or a real one in its place."""
        made, real = self._made.sample(class_ids, rng), self._real.sample(class_ids, rng)
        where, before = _occurrences(class_ids)
        start = rng.integers(_STARTS, class_ids.shape[1]).gather(1, where).double() / _STARTS
        reached = start + self._share * before
        is_real = (reached + self._share).floor() > reached.floor()
        return torch.where(is_real.unsqueeze(-1), real, made)


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


# Class ids, (replica, n), and a stream -> a synthetic feature for each, (replica, n, feature).
Sample = Callable[[Tensor, ReplicaRng], Tensor]


class Synthesizer:
    """Draws synthetic features of a task's unseen classes by a fitted generator's sample().

    Where every class is seen (few_shot), it draws features of all of them.

    weight: of the loss of each synthetic feature, a number.
    weighted: whether that is another than a real one's.
    """

    def __init__(
        self, config: SyntheticConfig, sample: Sample, task: Task, seeds: Sequence[int]
    ) -> None:
        device, dtype = task.features.device, task.features.dtype
        self.weight = task.features.new_tensor(config.weight)
        self.weighted = config.weight != 1
        self._ratio = config.ratio
        self._per_class = config.per_class or task.shots
        self._sample, self._numbered = sample, task.for_generator
        self._classes = task.synthesized_ids
        self._labels = ReplicaRng(seeds, "synthesis/labels", device)
        self._noise = ReplicaRng(seeds, "synthesis/noise", device, dtype)
        self._pool: tuple[Tensor, Tensor] | None = None
        self._pool = self.fixed_set() if config.draw == "fixed" else None

    def join(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        step: int,
    ) -> tuple[
        Float[Tensor, "replica m feature"], Int[Tensor, "replica m"], Float[Tensor, "replica m"]
    ]:
        """A step's real features and labels with `ratio` as many synthetic ones behind them.

        Synthetic labels are uniform over the classes to synthesize (the reference code's rule).

        Returns:
            Features, labels, and the weight of each one's loss.
        """
        size = max(1, round(self._ratio * features.shape[1]))
        rng = self._labels.at(step)
        if self._pool is not None:
            picks = rng.integers(self._pool[1].shape[1], size)
            made, own = (gather_rows(rows, picks) for rows in self._pool)
        else:
            own = self._classes.gather(1, rng.integers(self._classes.shape[1], size))
            made = self._sample(self._numbered(own), self._noise.at(step))
        weights = torch.cat([features.new_ones(labels.shape), self.weight.expand(own.shape)], dim=1)
        return torch.cat([features, made], dim=1), torch.cat([labels, own], dim=1), weights

    def fixed_set(self) -> tuple[Float[Tensor, "replica n feature"], Int[Tensor, "replica n"]]:
        """`per_class` features of every class to synthesize, class by class."""
        if self._pool is not None:
            return self._pool
        labels = self._classes.repeat_interleave(self._per_class, dim=1)
        return self._sample(self._numbered(labels), self._noise), labels
