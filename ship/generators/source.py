"""Sources of features for a fine-tuner: generators, real images, or a mixture of both.

A `FeatureSource` returns features for class IDs. `Synthesizer` chooses the class IDs, and adds the
features to the real ones that a fine-tuner trains on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ship.clip import FrozenCLIP
from ship.configs.generators import RealImagesConfig
from ship.seeds import SeedRng, draw_views, gather_rows
from ship.state import Part
from ship.tasks import Task
from ship.trial_config import SyntheticConfig

# MixedWithReal draws its random start in [0, 1) as a multiple of 1 / _N_STARTS.
_N_STARTS: Final = 2**30


class FeatureSource:
    """Base class of sources that return a unit-norm feature per class ID, for all seeds at once.

    By default, there is nothing to fit. Sources that are fitted override `epochs` and the functions
    that depend on the fit.

    Attributes:
        epochs: Number of epochs of the fit, one per call of `train_epoch`. 0 if there is nothing to
            fit.
    """

    epochs: int = 0

    @property
    def finished(self) -> bool:
        """Whether fitting is over: there is nothing to fit, or every seed has stopped early."""
        return self.epochs == 0

    def train_epoch(self) -> dict[str, Float[Tensor, " seed"]]:
        """Train one epoch and return mean losses and other metrics by name.

        Seeds that have stopped early keep their best parameters. If there is nothing to fit, the
        result is empty.
        """
        return {}

    def stop_seeds(self, seed_indices: Sequence[int]) -> None:
        """Treat failed seeds as if they had stopped early.

        The next `sample()` recomputes whatever it has cached from the parameters.

        Args:
            seed_indices: Indices of the seeds that have failed.
        """

    def sample(
        self, class_ids: Int[Tensor, "seed n"], rng: SeedRng
    ) -> Float[Tensor, "seed n feature"]:
        """Return one unit-norm feature per class ID, without gradients.

        Args:
            class_ids: Indices into the classes of the source's task.
            rng: Random stream of each seed.
        """
        raise NotImplementedError

    def parts(self) -> Mapping[str, Part]:
        """Return everything that fitting changes, for a checkpoint. Empty without epochs."""
        return {}

    def learned(self) -> Mapping[str, Part] | None:
        """Return the state that `sample()` needs besides the backbone and the classes.

        A new source that loads this state draws the same features. Tensors are (seed, ...) each.

        Returns:
            The state, or None if the source draws real images: they are not saved.
        """
        return None


class RealImages(FeatureSource):
    """Features of real training images of the new classes.

    By default they are an upper bound for any generator. The settings can degrade them: with
    mean_shift d and spread_scale s, a feature x of a class with mean m (over its images in all
    views) becomes (1 - d) m + d a + s (x - m), normalized. The target a is the class's text
    feature, or a random unit vector per class (`shift_target: noise`).
    """

    def __init__(
        self, config: RealImagesConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        by_seed, n_cls = task.load_unseen(), len(task.class_names)
        self._features = pad_sequence([images.features for images in by_seed], batch_first=True)
        self._counts = torch.stack([images.labels.bincount(minlength=n_cls) for images in by_seed])
        self._offsets = self._counts.cumsum(1) - self._counts
        self._spread = config.spread_scale
        # (class means, shifted class means); None if the features are not degraded
        self._mean_shift: tuple[Tensor, Tensor] | None = None
        if config.mean_shift or config.spread_scale != 1:
            means = _compute_padded_class_means(self._features, self._offsets, self._counts)
            targets = task.text_features.expand_as(means)
            if config.shift_target == "noise":
                directions = SeedRng(seeds, "real/directions", clip.device, means.dtype)
                targets = F.normalize(directions.normal(*means.shape[1:]), dim=-1)
            self._mean_shift = means, torch.lerp(means, targets, config.mean_shift)

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "seed n"], rng: SeedRng
    ) -> Float[Tensor, "seed n feature"]:
        """Return features of the classes' few-shot images, each in a random view.

        If a class is requested several times, its images are used in turn, starting from a random
        one, so that no image repeats before all have been used.
        """
        offsets = self._offsets.gather(1, class_ids)
        counts = self._counts.gather(1, class_ids)
        first_positions, n_before = _count_occurrences(class_ids)
        starts = rng.integers(2**31 - 1, class_ids.shape[1]).gather(1, first_positions)
        images = draw_views(self._features, offsets + (starts + n_before) % counts, rng)
        if self._mean_shift is None:
            return images
        means, shifted = (gather_rows(rows, class_ids) for rows in self._mean_shift)
        return F.normalize(shifted + self._spread * (images - means), dim=-1)


class MixedWithReal(FeatureSource):
    """A generator mixed with real images, which provide a share of each class's features.

    If n features of a class are requested at once, share * n of them (rounded up or down at random)
    are real. The real ones are evenly spaced among the n, with a random start.
    """

    def __init__(
        self,
        generator: FeatureSource,
        share: float,
        task: Task,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self._generator, self._share, self.epochs = generator, share, generator.epochs
        self._real = RealImages(RealImagesConfig(), task, clip, seeds)

    @property
    def finished(self) -> bool:
        """Whether fitting the generator is over."""
        return self._generator.finished

    def train_epoch(self) -> dict[str, Float[Tensor, " seed"]]:
        """Train the generator for one epoch and return its metrics."""
        return self._generator.train_epoch()

    def stop_seeds(self, seed_indices: Sequence[int]) -> None:
        """Treat failed seeds of the generator as if they had stopped early."""
        self._generator.stop_seeds(seed_indices)

    def parts(self) -> Mapping[str, Part]:
        """Return everything that fitting the generator changes, for a checkpoint."""
        return self._generator.parts()

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "seed n"], rng: SeedRng
    ) -> Float[Tensor, "seed n feature"]:
        """Return one feature per class ID, from the generator or from a real image."""
        synthetic, real = self._generator.sample(class_ids, rng), self._real.sample(class_ids, rng)
        first_positions, n_before = _count_occurrences(class_ids)
        steps = rng.integers(_N_STARTS, class_ids.shape[1]).gather(1, first_positions)
        cumulative = steps.double() / _N_STARTS + self._share * n_before
        is_real = (cumulative + self._share).floor() > cumulative.floor()
        return torch.where(is_real.unsqueeze(-1), real, synthetic)


def _count_occurrences(
    ids: Int[Tensor, "seed n"],
) -> tuple[Int[Tensor, "seed n"], Int[Tensor, "seed n"]]:
    """Return where each entry's ID first occurs, and how often it occurs before the entry.

    Each seed is counted separately: [7, 5, 7] gives positions [0, 1, 0] and counts [0, 0, 1].

    Args:
        ids: IDs of each seed, which may repeat.
    """
    order = ids.argsort(dim=1, stable=True)
    sorted_ids = ids.gather(1, order)
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    begins = torch.ones_like(sorted_ids, dtype=torch.bool)
    begins[:, 1:] = sorted_ids[:, 1:] != sorted_ids[:, :-1]
    starts = torch.where(begins, positions, 0).cummax(1).values
    empty = torch.empty_like(ids)
    first_positions = empty.scatter(1, order, order.gather(1, starts))
    return first_positions, empty.scatter(1, order, positions - starts)


def _compute_padded_class_means(
    features: Float[Tensor, "seed m view feature"],
    offsets: Int[Tensor, "seed n_cls"],
    counts: Int[Tensor, "seed n_cls"],
) -> Float[Tensor, "seed n_cls feature"]:
    """Return the mean of each class's images in all views, 0 for classes without images.

    Args:
        features: Image features of each seed, ordered by class and padded.
        offsets: Index of each class's first image.
        counts: Number of images of each class.
    """
    sums = F.pad(features.mean(2).cumsum(1), (0, 0, 1, 0))
    total = gather_rows(sums, offsets + counts) - gather_rows(sums, offsets)
    return total / counts.clamp_min(1).unsqueeze(-1)


# Maps class IDs, (seed, n), and a random stream to features, (seed, n, feature).
SampleFunction = Callable[[Tensor, SeedRng], Tensor]


class Synthesizer:
    """Synthetic training features of a task, drawn by the `sample()` of a fitted generator.

    The classes to synthesize are the task's unseen classes, or all classes if every class is seen
    (few_shot).

    Attributes:
        weight: Loss weight of a synthetic feature, a scalar tensor.
        weighted: Whether this weight differs from 1, the weight of a real feature.
    """

    def __init__(
        self, config: SyntheticConfig, sample: SampleFunction, task: Task, seeds: Sequence[int]
    ) -> None:
        device, dtype = task.features.device, task.features.dtype
        self.weight = task.features.new_tensor(config.loss_weight)
        self.weighted = config.loss_weight != 1
        self._ratio = config.ratio
        self._per_class = config.per_class or task.shots
        self._sample, self._to_generator_ids = sample, task.to_generator_labels
        self._classes = task.synthetic_ids
        self._labels = SeedRng(seeds, "synthesis/labels", device)
        self._noise = SeedRng(seeds, "synthesis/noise", device, dtype)
        # the only features if they are not resampled at each step
        self._pool = None if config.resample else self._draw_per_class()

    def join(
        self,
        features: Float[Tensor, "seed n feature"],
        labels: Int[Tensor, "seed n"],
        step: int,
    ) -> tuple[Float[Tensor, "seed m feature"], Int[Tensor, "seed m"], Float[Tensor, "seed m"]]:
        """Append synthetic features and labels to the real ones of a step.

        There are `synthetic.ratio` times as many synthetic features as real ones, at least one.
        With `synthetic.resample` they are new samples, whose labels are drawn uniformly from the
        classes to synthesize, as in the code of SHIP's authors. Otherwise features and labels are
        picked at random from sample_per_class().

        Args:
            features: Real features of the step.
            labels: Label of each real feature.
            step: Number of the step, which determines the random numbers.

        Returns:
            The features, their labels, and their loss weights.
        """
        size = max(1, round(self._ratio * features.shape[1]))
        rng = self._labels.at(step)
        if self._pool is not None:
            indices = rng.integers(self._pool[1].shape[1], size)
            synthetic, ids = (gather_rows(rows, indices) for rows in self._pool)
        else:
            ids = self._classes.gather(1, rng.integers(self._classes.shape[1], size))
            synthetic = self._sample(self._to_generator_ids(ids), self._noise.at(step))
        weights = torch.cat([features.new_ones(labels.shape), self.weight.expand(ids.shape)], dim=1)
        return torch.cat([features, synthetic], dim=1), torch.cat([labels, ids], dim=1), weights

    def sample_per_class(self) -> tuple[Float[Tensor, "seed n feature"], Int[Tensor, "seed n"]]:
        """Return `synthetic.per_class` features of each class to synthesize, and their labels.

        With `synthetic.resample`, each call draws new features. Otherwise all calls return the
        features that were drawn at the start.
        """
        return self._draw_per_class() if self._pool is None else self._pool

    def _draw_per_class(self) -> tuple[Float[Tensor, "seed n feature"], Int[Tensor, "seed n"]]:
        """Draw `synthetic.per_class` features of each class. Return them and their labels."""
        labels = self._classes.repeat_interleave(self._per_class, dim=1)
        return self._sample(self._to_generator_ids(labels), self._noise), labels
