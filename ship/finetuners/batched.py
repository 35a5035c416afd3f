"""Train a fine-tuner, which is written for one seed, for all seeds at once.

If its `training_data` is "stream", it gets batches of the task's images, with synthetic features
added in every step (`synthetic.ratio`, `.resample`, `.loss_weight`). If it is "fixed" or "custom",
synthetic features are drawn once and treated as images (`synthetic.per_class`, `.loss_weight`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.generators import Synthesizer
from ship.methods import Finetuner, FixedRows, SeedTask
from ship.methods.stack import ALL_SEEDS
from ship.methods.training import BatchedTraining, require_settings
from ship.seeds import gather_rows, to_device
from ship.state import Part
from ship.tasks import Task


class BatchedFinetuner(BatchedTraining):
    """The fine-tuners of all seeds over a task's classes.

    Attributes:
        inference_grid: Inference options that selection chooses from. See `Finetuner`.
        epochs: Number of epochs. 0 if there is nothing to train.
    """

    prototype: Finetuner

    def __init__(
        self,
        kind: type[Finetuner],
        config: Any,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        stream = kind.training_data == "stream"
        self._step_synthesizer = synthesizer if stream else None
        fixed = None if stream else synthesizer
        joint_task, self._weights = add_synthetic_rows(task, fixed)
        self._has_weights = fixed is not None and fixed.weighted
        tasks = []
        for seed_index, n in enumerate(joint_task.counts):
            tensors = (joint_task.features, joint_task.labels, self._weights)
            values = (x[seed_index, :n] for x in tensors)
            fixed_rows = None if stream else FixedRows(*values)
            synthetic = synthesizer is not None
            tasks.append(
                SeedTask.from_task(task, seed_index, synthetic=synthetic, fixed=fixed_rows)
            )
        super().__init__(kind, config, tasks, clip, seeds)
        self.inference_grid = self.prototype.inference_grid
        self._schedule_lengths: tuple[int, ...] = ()
        if kind.training_data == "custom":
            require_settings(config, "epochs")
            self.epochs = config.epochs
        elif self.stack.trained:
            require_settings(config, "epochs", "batch_size")
            self.epochs = config.epochs
            if self.epochs:
                self._prepare_steps(config, joint_task, seeds)
                self._schedule_lengths = (self.epochs,) * len(seeds)

    def set_schedule_lengths(self, lengths: Sequence[int]) -> None:
        """Set the epoch at which each seed's learning-rate schedule ends.

        Args:
            lengths: Last epoch of each seed's schedule. 0 for a seed whose training is discarded.
        """
        # lr_at is not defined for a schedule of 0 epochs, so the schedule has at least 1.
        self._schedule_lengths = tuple(max(1, n) for n in lengths)

    def loss(
        self,
        features: Float[Tensor, "seed n feature"],
        labels: Int[Tensor, "seed n"],
        weights: Float[Tensor, "seed n"] | None,
        seeds: slice = ALL_SEEDS,
    ) -> Float[Tensor, " seed"]:
        """Return the loss of each seed for its batch.

        Args:
            features: Features of each seed's batch.
            labels: Label of each feature.
            weights: Loss weight of each feature. None means 1 for all.
            seeds: Seeds whose batches these are. Defaults to all.

        Raises:
            TypeError: The method's loss is not a scalar tensor.
        """
        loss: Tensor = self.stack("loss", features, labels, weights, seeds=seeds)
        if not isinstance(loss, Tensor) or loss.shape != (len(labels),):
            function = f"{type(self.prototype).__name__}.loss"
            shape = tuple(loss.shape[1:]) if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"{function} must return a scalar tensor, got {shape}")
        return loss

    def train_epoch(self) -> dict[str, Float[Tensor, " seed"]]:
        """Train one epoch: a pass over the training rows, or the method's own `epoch`.

        Returns:
            The mean loss of the epoch, under the key "loss". Empty if there is nothing to train.
        """
        if not self.epochs:
            return {}
        if self.prototype.training_data == "custom":
            with torch.no_grad():
                return {"loss": self.stack("epoch")}
        return self._train_pass()

    def _train_step(self, step: int) -> dict[str, Float[Tensor, " seed"]]:
        self._optimizer.zero_grad()
        loss: Tensor | float = 0.0
        for part in self._split_loss(*self._batch(step)):
            # The sum over seeds gives each seed the gradient of its own loss.
            part.sum().backward()
            loss = loss + part.detach()
        self._optimizer.step(partial(self._rates, step=step))
        return {"loss": torch.as_tensor(loss)}

    def _rates(self, base: float, step: int) -> list[float]:
        """Return each seed's learning rate at a step.

        A seed whose schedule has ended keeps the rate of its last step, because `lr_at` need not be
        defined after the end.

        Args:
            base: Learning rate set in `optimizer()`.
            step: Number of the step, counted from 0 over all epochs.
        """
        by_length = {}
        for n in set(self._schedule_lengths):
            epoch = min(step, n * self.steps - 1) / self.steps
            by_length[n] = self.prototype.lr_at(base, epoch, n)
        return [by_length[n] for n in self._schedule_lengths]

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the features, labels and loss weights of a step. Weights None mean 1 for all."""
        indices = to_device(self._batches.at(step), self._weights.device)
        features, labels = self._rows.batch(indices, self._views.at(step))
        if self._step_synthesizer is not None:
            return self._step_synthesizer.join(features, labels, step)
        # Weights of 1 are omitted, so that rounding is the same as in a run without weights.
        return features, labels, gather_rows(self._weights, indices) if self._has_weights else None

    def _split_loss(
        self, features: Tensor, labels: Tensor, weights: Tensor | None
    ) -> Iterator[Float[Tensor, " seed"]]:
        """Yield parts of the loss, (seed,) each. Their sum is the loss of each seed.

        A part is computed from at most `microbatch_size` rows, over all seeds. If there are more
        seeds than `microbatch_size`, it is computed from one row of each of `microbatch_size`
        seeds, and is 0 for all other seeds. Parts add up to the loss because a loss with
        microbatches must be a weighted mean over rows.
        """
        n_seeds, n = labels.shape
        limit = self.prototype.microbatch_size
        if limit is None or limit >= n_seeds * n:
            yield self.loss(features, labels, weights)
            return
        weights = torch.ones_like(features[..., 0]) if weights is None else weights
        shares = weights / weights.sum(1, keepdim=True)
        n_rows = max(1, limit // n_seeds)
        for first in range(0, n_seeds, limit):
            seeds = slice(first, min(first + limit, n_seeds))
            for start in range(0, n, n_rows):
                rows = slice(start, start + n_rows)
                x, y, w = (tensor[seeds, rows] for tensor in (features, labels, weights))
                part = self.loss(x, y, w, seeds) * shares[seeds, rows].sum(1)
                yield F.pad(part, (first, n_seeds - seeds.stop))

    @torch.no_grad()
    def logits(
        self, images: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "seed n n_cls"]:
        """Return every seed's class scores for the same images.

        Args:
            images: Image features with unit norm.
            choice: Entry of `inference_grid`.
        """
        logits: Tensor = self.stack("logits", shared=(images, dict(choice)))
        return logits

    def state_dict(self) -> dict[str, Tensor]:
        """Return detached copies of the method's tensors that training changes."""
        return {name: value.detach().clone() for name, value in self._changed.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state of `state_dict()`."""
        for name, value in self._changed.items():
            value.copy_(state[name])

    def learned(self) -> Mapping[str, Part]:
        """Return the state that `logits()` needs besides the backbone and the classes."""
        return dict(self.stack.learned)

    def parts(self) -> Mapping[str, Part]:
        """Return everything that training changes, for a checkpoint."""
        if not self.epochs:
            return {}
        if self.prototype.training_data == "custom":
            return dict(self._changed)
        return {"method": self._changed, "optimizer": self._optimizer, "done": self._done}

    @property
    def _changed(self) -> dict[str, Tensor]:
        stateful_buffers = {
            name: self.stack.state[name] for name in self.prototype.stateful_buffers
        }
        return {**self.stack.trained, **stateful_buffers}


def add_synthetic_rows(
    task: Task, synthesizer: Synthesizer | None
) -> tuple[Task, Float[Tensor, "seed n"]]:
    """Insert synthetic features before the task's images, `per_class` for each class to synthesize.

    All views of a synthetic row are the same feature. Seeds with fewer rows are padded at the end:
    only the first `counts` rows of each seed are valid.

    Args:
        task: Task with the images.
        synthesizer: Source of the synthetic features. None adds none.

    Returns:
        The task, and the loss weight of each row: `synthetic.loss_weight` for synthetic features, 1
        for images.
    """
    weights = torch.ones_like(task.features[:, :, 0, 0])
    if synthesizer is None:
        return task, weights
    synthetic, labels = synthesizer.sample_per_class()
    n = synthetic.shape[1]
    synthetic = synthetic.unsqueeze(2).expand(-1, -1, task.features.shape[2], -1)
    joint_task = replace(
        task,
        features=torch.cat([synthetic, task.features], dim=1),
        labels=torch.cat([labels, task.labels], dim=1),
        counts=tuple(n + count for count in task.counts),
        rows_per_epoch=n + task.rows_per_epoch,
    )
    return joint_task, torch.cat([synthesizer.weight.expand(labels.shape), weights], dim=1)
