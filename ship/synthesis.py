"""Synthetic features of unseen classes, drawn for a fine-tuner."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ship.generators import Generator
from ship.replicas import ReplicaRng
from ship.settings import Settings
from ship.task import Task


class SyntheticConfig(Settings):
    """How synthetic features of the unseen classes join a fine-tuner's training set."""

    ratio: float = Field(
        1.0,
        gt=0,
        le=16,
        description="fresh synthetic features a real one, each step (coop)",
    )
    per_class: int | None = Field(
        None,
        ge=1,
        description="cached synthetic features a new class; null: as many as shots",
    )


class Synthesizer:
    """Draws synthetic features of a task's unseen classes from a fitted generator."""

    def __init__(
        self, config: SyntheticConfig, generator: Generator, task: Task, seeds: Sequence[int]
    ) -> None:
        device, dtype = task.features.device, task.features.dtype
        self._ratio = config.ratio
        self._per_class = config.per_class or task.shots
        self._generator = generator
        self._unseen = task.unseen_ids
        self._labels = ReplicaRng(seeds, "synthesis/labels", device)
        self._noise = ReplicaRng(seeds, "synthesis/noise", device, dtype)

    def join(
        self, features: Float[Tensor, "replica n feature"], labels: Int[Tensor, "replica n"]
    ) -> tuple[Float[Tensor, "replica m feature"], Int[Tensor, "replica m"]]:
        """A step's real features and labels with `ratio` as many fresh synthetic ones behind them.

        Synthetic labels are uniform over the unseen classes (the reference code's rule).
        """
        size = max(1, round(self._ratio * features.shape[1]))
        picks = self._labels.integers(self._unseen.shape[1], size)
        made_labels = self._unseen.gather(1, picks)
        made = self._generator.sample(made_labels, self._noise)
        return torch.cat([features, made], dim=1), torch.cat([labels, made_labels], dim=1)

    def fixed_set(self) -> tuple[Float[Tensor, "replica n feature"], Int[Tensor, "replica n"]]:
        """`per_class` features of every unseen class, class by class."""
        labels = self._unseen.repeat_interleave(self._per_class, dim=1)
        return self._generator.sample(labels, self._noise), labels
