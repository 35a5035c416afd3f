"""All seeds of a method, trained side by side step by step: what fitting and tuning share."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ship.methods.contract import Method
from ship.methods.stack import Stack


class Fused:
    """One method for each seed, run as one.

    stack: the methods. one: the first of them, for what is the same for all seeds.
    epochs: that train_epoch is to be called for; 0: nothing is trained by steps.
    """

    _steps = 0  # of an epoch

    def __init__(self, ones: Sequence[Method], device: torch.device) -> None:
        self.one = ones[0]
        self.stack = Stack(ones, device)
        self.epochs = 0
        self._done = torch.zeros((), dtype=torch.long)  # steps

    def _pass(self) -> dict[str, Float[Tensor, " replica"]]:
        """The next epoch's steps: the means of what they tell, by name."""
        sums: dict[str, Tensor] = {}
        for _ in range(self._steps):
            for name, value in self._turn(int(self._done)).items():
                sums[name] = sums.get(name, 0) + value
            self._done += 1
        return {name: value / self._steps for name, value in sums.items()}

    def _turn(self, step: int) -> dict[str, Float[Tensor, " replica"]]:
        """Take a step, counted from 0 over all epochs; what it tells, by name."""
        raise NotImplementedError


def require_settings(config: Any, *names: str) -> None:
    """Look whether settings have what running a method takes.

    Raises:
        TypeError: they lack some of it.
    """
    if lacking := [name for name in names if not hasattr(config, name)]:
        raise TypeError(
            f"{config.name} is trained, so that its settings must have {' and '.join(lacking)}"
        )
