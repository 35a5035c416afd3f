"""Synthetic features of unseen classes, drawn for a fine-tuner."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.tasks import Task
from ship.training import ReplicaRng, gather_rows
from ship.trial_config import SyntheticConfig

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
        self._sample = sample
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
            made = self._sample(own, self._noise.at(step))
        weights = torch.cat([features.new_ones(labels.shape), self.weight.expand(own.shape)], dim=1)
        return torch.cat([features, made], dim=1), torch.cat([labels, own], dim=1), weights

    def fixed_set(self) -> tuple[Float[Tensor, "replica n feature"], Int[Tensor, "replica n"]]:
        """`per_class` features of every class to synthesize, class by class."""
        if self._pool is not None:
            return self._pool
        labels = self._classes.repeat_interleave(self._per_class, dim=1)
        return self._sample(labels, self._noise), labels
