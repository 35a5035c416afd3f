"""Descent: a step's losses, their gradients, an optimizer, and a rate that falls along a cosine."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.training.optimizer import ReplicaOptimizer
from ship.training.state import Counter, Part

# A step's features (replica, n, feature), labels (replica, n), weights of the rows' losses
# (replica, n) or None for 1.
Batch: TypeAlias = tuple[
    Float[Tensor, "replica n feature"],
    Int[Tensor, "replica n"],
    Float[Tensor, "replica n"] | None,
]
# Features, labels, weights -> parts that add up to each replica's loss, (replica,) each. A part's
# gradient is taken before the next part is asked for, so that a loss too large for memory can come
# in several.
BatchLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Iterable[Tensor]]


class CosineDescent:
    """An optimizer whose learning rates fall to 0 along a cosine, step by step."""

    def __init__(self, optimizer: ReplicaOptimizer, epochs: int, steps: int) -> None:
        """Build it.

        Args:
            optimizer: of the parameters.
            epochs: after which the rates are 0; 0: nothing is trained.
            steps: of an epoch.
        """
        self._optimizer = optimizer
        self._steps = steps
        self._total = max(1, epochs * steps)
        self._done = Counter()

    def epoch(self, batch: Callable[[], Batch], losses: BatchLoss) -> Float[Tensor, " replica"]:
        """Minimise each step's loss in turn; the mean over the epoch's steps.

        Args:
            batch: draws the next step's batch.
            losses: of a batch.
        """
        total: Tensor | float = 0.0
        for _ in range(self._steps):
            self._optimizer.zero_grad()
            found: Tensor | float = 0.0
            for part in losses(*batch()):
                # summed over replicas, so that each one's gradient is that of its own loss
                part.sum().backward()
                found = found + part.detach()
            self._optimizer.step()
            total = total + found
            self._lower_rates()
        return torch.as_tensor(total / self._steps)

    def _lower_rates(self) -> None:
        """Step t of T leaves lr * (1 + cos(pi t / T)) / 2, reached factor by factor as in torch."""
        before, self._done.value = self._done.value, self._done.value + 1
        if before >= self._total:  # the rates are 0, and stay so
            return
        now = 1 + math.cos(math.pi * self._done.value / self._total)
        self._optimizer.scale_rates(now / (1 + math.cos(math.pi * before / self._total)))

    def parts(self) -> Mapping[str, Part]:
        """What moves the parameters, which are their owner's."""
        return {"optimizer": self._optimizer, "done": self._done}
