"""Synthetic features of unseen classes, drawn for a fine-tuner."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.generators import FeatureSource
from ship.tasks import Task
from ship.training import Part, ReplicaRng, gather_rows
from ship.trial_config import SyntheticConfig


class Synthesizer:
    """Draws synthetic features of a task's unseen classes from a fitted generator.

    Where every class is seen (few_shot), it draws features of all of them.

    weighted: whether a synthetic feature's loss counts otherwise than a real one's.
    """

    def __init__(
        self,
        config: SyntheticConfig,
        generator: FeatureSource,
        task: Task,
        seeds: Sequence[int],
    ) -> None:
        device, dtype = task.features.device, task.features.dtype
        self._weight = task.features.new_tensor(config.weight)
        self.weighted = config.weight != 1
        self._ratio = config.ratio
        self._per_class = config.per_class or task.shots
        self._generator = generator
        self._classes = task.synthesized_ids
        self._labels = ReplicaRng(seeds, "synthesis/labels", device)
        self._noise = ReplicaRng(seeds, "synthesis/noise", device, dtype)
        self._pool: tuple[Tensor, Tensor] | None = None
        if config.draw == "fixed":
            self._pool = self.fixed_set()

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
        made, made_labels = self._draw(size, step)
        weights = torch.cat([features.new_ones(labels.shape), self.weights(made_labels)], dim=1)
        joined = torch.cat([features, made], dim=1)
        return joined, torch.cat([labels, made_labels], dim=1), weights

    def weights(self, labels: Int[Tensor, "replica n"]) -> Float[Tensor, "replica n"]:
        """The weight of each synthetic feature's loss."""
        return self._weight.expand(labels.shape)

    def _draw(self, size: int, step: int) -> tuple[Tensor, Tensor]:
        rng = self._labels.at(step)
        if self._pool is not None:
            picks = rng.integers(self._pool[1].shape[1], size)
            return gather_rows(self._pool[0], picks), gather_rows(self._pool[1], picks)
        labels = self._classes.gather(1, rng.integers(self._classes.shape[1], size))
        return self._generator.sample(labels, self._noise.at(step)), labels

    def fixed_set(self) -> tuple[Float[Tensor, "replica n feature"], Int[Tensor, "replica n"]]:
        """`per_class` features of every class to synthesize, class by class."""
        if self._pool is not None:
            return self._pool
        labels = self._classes.repeat_interleave(self._per_class, dim=1)
        return self._generator.sample(labels, self._noise), labels


class Renumbered(FeatureSource):
    """A fitted generator seen from a task that numbers the classes otherwise.

    Args:
        ids: each class of that task as the generator's own task numbers it.
    """

    def __init__(self, generator: FeatureSource, ids: Int[Tensor, " n_cls"]) -> None:
        self._generator = generator
        self._ids = ids

    def learned(self) -> Mapping[str, Part] | None:
        """That of the generator."""
        return self._generator.learned()

    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """One synthetic feature for every class id of the task."""
        return self._generator.sample(self._ids[class_ids], rng)
