"""The training loop that generators and fine-tuners share."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.methods.base import Method, Rng
from ship.methods.stack import Stack
from ship.seeds import BatchStream, SeedRng
from ship.tasks import SeedTask, Task


class BatchedTraining:
    """One method per seed, with all seeds trained together.

    A subclass defines `train_epoch`, which calls `_train_pass` to train in steps.

    Attributes:
        stack: The methods of all seeds.
        prototype: Method of the first seed. Use it only for what is the same for all seeds.
        epochs: Number of epochs to call `train_epoch` for. 0 if nothing is trained in epochs.
        steps: Number of steps per epoch. 0 if nothing is trained in steps.
    """

    steps = 0
    _trained_module: ClassVar[str] = ""
    """Name of the submodule that the steps train. "" trains all parameters."""

    def __init__(
        self,
        kind: type[Method],
        config: Any,
        tasks: Sequence[SeedTask],
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        """Build the methods.

        Args:
            kind: Class of the methods.
            config: Settings of the methods.
            tasks: Task of each seed.
            clip: Frozen backbone.
            seeds: Seeds of the trial.
        """
        methods = []
        for task, seed in zip(tasks, seeds, strict=True):
            draw = partial(Rng, seed, task.features)  # see ship.methods.base.Draw
            methods.append(kind(config, task, clip, draw))
        self.prototype = methods[0]
        self.stack = Stack(methods, tasks[0].features.device)
        self.epochs = 0
        self._done = torch.zeros((), dtype=torch.long)  # finished steps

    def _prepare_steps(self, config: Any, rows: Task, seeds: Sequence[int]) -> None:
        """Create what `_train_step` needs: batches, random views and the optimizer.

        An epoch is a pass over the rows, each in one of its views, chosen at random. If the batch
        size does not divide the number of rows, the last batch also has rows of the next pass,
        unless `config.drop_last` is set: then it is omitted.

        Args:
            config: Settings of the methods.
            rows: Task with the rows to train on.
            seeds: Seeds of the trial.
        """
        name, device = self.prototype.stream, rows.features.device
        self._rows = rows
        self._batch_size = min(config.batch_size, rows.rows_per_epoch)
        drop_last = getattr(config, "drop_last", False)
        # rows_per_epoch is the same for all seeds, unlike their numbers of images.
        n_full_batches, n_remaining = divmod(rows.rows_per_epoch, self._batch_size)
        self.steps = n_full_batches
        if n_remaining and not drop_last:
            self.steps += 1
        self._batches = BatchStream(
            rows.counts,
            self._batch_size,
            seeds,
            f"{name}/batches",
            epoch_steps=self.steps if drop_last else None,
        )
        self._views = SeedRng(seeds, f"{name}/views", device)
        self._optimizer = self.stack.optimizer(self._trained_module)

    def _train_pass(self) -> dict[str, Float[Tensor, " seed"]]:
        """Train one epoch and return the means of its steps' values, by name."""
        sums: dict[str, Tensor] = {}
        for _ in range(self.steps):
            for name, value in self._train_step(int(self._done)).items():
                sums[name] = sums.get(name, 0) + value
            self._done += 1
        return {name: value / self.steps for name, value in sums.items()}

    def _train_step(self, step: int) -> dict[str, Float[Tensor, " seed"]]:
        """Take one training step and return its values by name.

        Args:
            step: Number of the step, counted from 0 over all epochs.
        """
        raise NotImplementedError


def require_settings(config: Any, *names: str) -> None:
    """Check that settings have the attributes that training the method requires.

    Args:
        config: Settings of the method.
        names: Required attributes.

    Raises:
        TypeError: An attribute is missing.
    """
    missing = [name for name in names if not hasattr(config, name)]
    if missing:
        raise TypeError(
            f"settings of {config.name} must have {' and '.join(missing)}, which training requires"
        )
