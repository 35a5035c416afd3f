"""Fit a generator, which is written for one seed, for all seeds at once, and sample from it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.generators.source import FeatureSource
from ship.methods import Generator, SeedTask
from ship.methods.prompts import PROMPTS_AT_ONCE
from ship.methods.training import BatchedTraining, require_settings
from ship.seeds import SeedOptimizer, SeedRng, SeedState
from ship.state import Part, add_prefix, strip_prefix
from ship.tasks import Task


class BatchedGenerator(BatchedTraining, FeatureSource):
    """A feature source with one generator per seed, all fitted together.

    Raises:
        ValueError: Early stopping is on and a seed has no validation images.
    """

    prototype: Generator

    def __init__(
        self, kind: type[Generator], config: Any, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        device, dtype = task.features.device, task.features.dtype
        self._task = task
        self._tasks = [SeedTask.from_task(task, seed_index) for seed_index in range(task.n_seeds)]
        super().__init__(kind, config, self._tasks, clip, seeds)
        if self.stack.trained:
            require_settings(config, "epochs", "batch_size")
            self.epochs = config.epochs
        self._precomputed = False
        self._stopping: EarlyStopping | None = None
        if not self.epochs:
            return
        self._prepare_steps(config, task, seeds)
        self._noise = SeedRng(seeds, f"{self.prototype.stream}/noise", device, dtype)
        if self.prototype.patience is not None:
            patience, warmup = self.prototype.patience, self.prototype.warmup
            self._stopping = EarlyStopping(patience, warmup, task.n_seeds, device)
            self._held_out = self._load_validation(seeds)

    def _load_validation(self, seeds: Sequence[int]) -> list[Sequence[Any]]:
        """Return the inputs of the loss on validation images, each with one entry per seed.

        Each image has the same noise vector in all epochs, which makes epochs comparable. Using the
        posterior mean as z would also make them comparable, but would bias the ELBO: its squared
        error would not include the posterior's variance.
        """
        held_out = self._task.load_validation()
        counts = [len(images.labels) for images in held_out]
        if lacking := [seed for seed, n in zip(seeds, counts, strict=True) if n == 0]:
            raise ValueError(
                "generator.early_stopping requires validation images of the seen classes, "
                f"but seeds {lacking} have none. Set it to null to train all epochs"
            )
        like, noise = self._task.features, []
        for seed, n in zip(seeds, counts, strict=True):
            # One SeedRng per seed: a seed's noise must not depend on the other seeds' images.
            rng = SeedRng([seed], f"{self.prototype.stream}/held_out", like.device, like.dtype)
            drawn = self._draw_noise(n, rng)
            noise.append(None if drawn is None else drawn[0])
        features = [images.features for images in held_out]
        labels = [images.labels for images in held_out]
        return [features, labels, noise, [math.inf] * len(counts)]

    @property
    def finished(self) -> bool:
        """Whether fitting is over: there is nothing to fit, or every seed has stopped early."""
        if self._stopping is not None:
            return bool(self._stopping.stopped.all())
        return self.epochs == 0

    def stop_seeds(self, seed_indices: Sequence[int]) -> None:
        """Treat failed seeds as if they had stopped early. See `FeatureSource.stop_seeds`."""
        if not seed_indices:
            return
        self._precomputed = False
        if self._stopping is not None:
            self._stopping.stopped[list(seed_indices)] = True

    def train_epoch(self) -> dict[str, Float[Tensor, " seed"]]:
        """Train one epoch: a pass over the seen classes' images, each in a random view.

        Returns:
            Mean losses of the epoch and metrics at its end, by name. Empty if there is nothing to
            fit. Early stopping adds held_out_loss, the loss on validation images. Seeds that have
            stopped, and in the last epoch all seeds, then report the values of their best epoch.
        """
        if not self.epochs:
            return {}
        self._precomputed = False
        metrics = self._train_pass()
        with torch.no_grad():
            metrics |= self.stack.call_one_by_one(
                "epoch_metrics", [task.features[:, 0] for task in self._tasks]
            )
            if self._stopping is not None:
                metrics = self._keep_best(self._stopping, metrics)
        return metrics

    def _batch(self, number: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the features, class IDs and noise of a batch. Noise is None if its size is 0."""
        features, labels = self._task.batch(self._batches.at(number), self._views.at(number))
        return features, labels, self._draw_noise(self._batch_size, self._noise.at(number))

    def _draw_noise(self, n: int, rng: SeedRng) -> Float[Tensor, "seed n noise"] | None:
        return rng.normal(n, self.prototype.noise_size) if self.prototype.noise_size else None

    def _train_step(self, step: int) -> dict[str, Float[Tensor, " seed"]]:
        epoch = step // self.steps + 1
        return self._step("loss", self._optimizer, *self._batch(step), shared=[epoch])

    def _step(
        self,
        loss: str,
        optimizer: SeedOptimizer,
        *batch: Tensor | None,
        shared: Sequence[int] = (),
    ) -> dict[str, Float[Tensor, " seed"]]:
        """Take an optimizer step on one of the method's losses and return its values by name.

        Args:
            loss: Name of the method's loss function, e.g. "loss".
            optimizer: Optimizer of the parameters to train.
            batch: Inputs of the loss, (seed, n, ...) each.
            shared: Further inputs, which are the same for all seeds.

        Raises:
            TypeError: The loss function does not return a dict with the key "loss".
        """
        values: dict[str, Tensor] = self.stack(loss, *batch, shared=shared)
        if not isinstance(values, dict) or "loss" not in values:
            is_dict = isinstance(values, dict)
            actual = f"keys {list(values)}" if is_dict else type(values).__name__
            function = f"{type(self.prototype).__name__}.{loss}"
            raise TypeError(f"{function} must return a dict with the key 'loss', got {actual}")
        optimizer.zero_grad()
        # The sum over seeds gives each seed the gradient of its own mean loss.
        values["loss"].sum().backward()
        optimizer.step()
        return {name: value.detach() for name, value in values.items()}

    def _keep_best(
        self, stopping: "EarlyStopping", metrics: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, " seed"]]:
        """Update early stopping, and restore the best epoch of seeds whose training is over.

        Args:
            stopping: State of early stopping.
            metrics: Metrics of the epoch, (seed,) each.

        Returns:
            The metrics and held_out_loss. Restored seeds have the values of their best epoch, all
            other seeds those of this epoch.
        """
        held_out_loss = self.stack.call_one_by_one("loss", *self._held_out)["loss"]
        trained, epoch = self.stack.trained, int(self._done) // self.steps
        metrics = {**metrics, "held_out_loss": held_out_loss}
        tensors = {**add_prefix("metrics", metrics), **add_prefix("trained", trained)}
        stopping.update(epoch, held_out_loss, tensors)
        result = SeedState(tensors)
        is_over = stopping.stopped | (epoch == self.epochs)
        result.set_where(is_over, {name: stopping.tensors[name] for name in tensors})
        for name, value in strip_prefix(result.tensors, "trained").items():
            trained[name].copy_(value)
        return strip_prefix(result.tensors, "metrics")

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "seed n"], rng: SeedRng
    ) -> Float[Tensor, "seed n feature"]:
        """Return one unit-norm feature per class ID, computed in chunks to bound memory.

        Args:
            class_ids: Indices into the task's classes.
            rng: Random stream of each seed, for the noise.
        """
        if not self._precomputed:
            self.stack.state.update(self.stack.call_one_by_one("precompute"))
            self._precomputed = True
        noise = self._draw_noise(class_ids.shape[1], rng)
        step = max(1, PROMPTS_AT_ONCE // len(class_ids))
        ids = class_ids.split(step, dim=1)
        noises = [None] * len(ids) if noise is None else noise.split(step, dim=1)
        return torch.cat([self.stack("sample", *part) for part in zip(ids, noises, strict=True)], 1)

    def learned(self) -> Mapping[str, Part]:
        """Return the state that `sample()` needs besides the backbone and the classes."""
        prefix = f"{self.prototype.sampler}." if self.prototype.sampler else ""
        return {
            name.removeprefix(prefix): part
            for name, part in self.stack.learned.items()
            if name.startswith(prefix)
        }

    def parts(self) -> Mapping[str, Part]:
        """Return the trained parameters and the state of their training, for a checkpoint."""
        if not self.epochs:
            return {}
        return {
            "done": self._done,
            "parameters": self.stack.trained,
            "optimizer": self._optimizer,
            "stopping": self._stopping or {},
        }


class EarlyStopping(SeedState):
    """Each seed's epoch with the lowest held-out loss, and whether the seed has stopped.

    A stopped seed is still trained, because a step always trains all seeds. This has no effect,
    because the seed's best state is restored after each epoch.
    """

    def __init__(self, patience: int, warmup: int, n_seeds: int, device: torch.device) -> None:
        """Start without a best epoch.

        Args:
            patience: Number of epochs without a lower loss after which a seed stops.
            warmup: Number of epochs that do not count towards the patience.
            n_seeds: Number of seeds.
            device: Device of the trained tensors.
        """
        zeros = torch.zeros(n_seeds, dtype=torch.long, device=device)
        super().__init__({"epoch": zeros, "stopped": zeros > 0})
        self._patience, self._warmup = patience, warmup

    @property
    def stopped(self) -> Bool[Tensor, " seed"]:
        """Mask of the seeds that have stopped."""
        return self.tensors["stopped"]

    def update(self, epoch: int, loss: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Record seeds that improved, and stop seeds whose patience has run out.

        Args:
            epoch: 1-based epoch.
            loss: Held-out loss, (seed,).
            tensors: Tensors to keep for the seeds that improved, (seed, ...) each.
        """
        best = self.tensors.get("loss")
        improves = ~self.stopped if best is None else ~self.stopped & (loss < best.to(loss))
        epochs = torch.full_like(self.tensors["epoch"], epoch)
        self.set_where(improves, {"epoch": epochs, "loss": loss, **tensors})
        n_epochs_waited = epoch - self.tensors["epoch"].clamp(min=self._warmup)
        self.tensors["stopped"] = self.stopped | (n_epochs_waited >= self._patience)
