"""What a method for one seed has: less than ship.generators and ship.finetuners ask for."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.training import Part

SeedPart: TypeAlias = "Part | nn.Module | torch.optim.Optimizer | torch.Generator"
"""What a checkpoint can hold: tensors, modules, optimizers, random generators."""


@runtime_checkable
class SeedGenerator(Protocol):
    """A generator of features for one seed.

    It is built by (settings, SeedTask, FrozenCLIP, seed). All that it draws at random while it
    trains comes from a torch.Generator of its own, made from the seed.

    epochs: passes over the pictures; it must be the setting `epochs`, or 0 where there is none.
    """

    @property
    def epochs(self) -> int:
        """Training epochs (0: nothing to fit)."""

    def train_epoch(self) -> Mapping[str, float | Tensor]:
        """Train one epoch; numbers by name, such as the mean loss."""

    def sample(
        self, class_ids: Int[Tensor, " n"], rng: torch.Generator
    ) -> Float[Tensor, "n feature"]:
        """One unit-norm feature for each class id.

        Args:
            rng: where all noise comes from; it is on the CPU.
        """

    def learned(self) -> Mapping[str, Tensor | nn.Module]:
        """All that sample() reads beside the task's text features; of fixed shapes."""

    def parts(self) -> Mapping[str, SeedPart]:
        """All that an epoch changes: `learned`, optimizers, random generators; {} if nothing."""


@runtime_checkable
class SeedFinetuner(Protocol):
    """A fine-tuner for one seed.

    It is built by (settings, SeedTask, SyntheticSet or None, FrozenCLIP, seed). All that it draws
    at random comes from a torch.Generator of its own, made from the seed.

    epochs: passes over the pictures; it must be the setting `epochs`, or 0 where there is none.
    """

    @property
    def epochs(self) -> int:
        """Training epochs (0: nothing to train by epochs)."""

    def train_epoch(self) -> Mapping[str, float | Tensor]:
        """Train one epoch; numbers by name, such as the mean loss."""

    def logits(self, pictures: Float[Tensor, "n feature"]) -> Float[Tensor, "n n_cls"]:
        """Scores of unit-norm features for all classes of the task.

        A picture's scores are those that it has alone, whatever the others and their order.
        """

    def learned(self) -> Mapping[str, Tensor | nn.Module]:
        """All that logits() reads beside the task's text features; of fixed shapes."""

    def parts(self) -> Mapping[str, SeedPart]:
        """All that an epoch changes: `learned`, optimizers, random generators; {} if nothing."""
