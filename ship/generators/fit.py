"""Fits a generator that is written for one seed, all seeds side by side, and draws from it."""

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
from ship.methods.stack import Fused, require_settings
from ship.replicas import Kept, ReplicaOptimizer, ReplicaRng
from ship.state import Part, prefixed, under
from ship.tasks import Task


class FusedGenerator(Fused, FeatureSource):
    """A source of features that is one method for each seed.

    Raises:
        ValueError: early stopping without validation pictures.
    """

    one: Generator

    def __init__(
        self, kind: type[Generator], config: Any, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        device, dtype = task.features.device, task.features.dtype
        self._task = task
        self._tasks = [SeedTask.of(task, replica) for replica in range(task.n_replicas)]
        super().__init__(kind, config, self._tasks, clip, seeds)
        if self.stack.trained:
            require_settings(config, "epochs", "batch_size")
            self.epochs = config.epochs
        self._settled = False
        self._stopping: EarlyStopping | None = None
        if not self.epochs:
            return
        self._train_by_steps(config, task, seeds)
        self._noise = ReplicaRng(seeds, f"{self.one.stream}/noise", device, dtype)
        if self.one.patience is not None:
            patience, warmup = self.one.patience, self.one.warmup
            self._stopping = EarlyStopping(patience, warmup, task.n_replicas, device)
            self._held_out = self._validation(seeds)

    def _validation(self, seeds: Sequence[int]) -> list[Sequence[Any]]:
        """What held-out losses are of, each input of all seeds.

        Each picture has one noise vector, which is the same at every epoch: that makes epochs
        comparable and, unlike z at the posterior mean, leaves the estimate of the ELBO unbiased, as
        the posterior's variance has its price in squared error.
        """
        held_out = self._task.held_out()
        counts = [len(own.labels) for own in held_out]
        if without := [seed for seed, n in zip(seeds, counts, strict=True) if n == 0]:
            raise ValueError(
                "generator.early_stopping needs validation pictures of the seen classes, "
                f"there are none for seeds {without} (null: no early stopping)"
            )
        like, noise = self._task.features, []
        for seed, n in zip(seeds, counts, strict=True):
            # drawn by seed: how much one draws must not depend on the others' pictures
            rng = ReplicaRng([seed], f"{self.one.stream}/held_out", like.device, like.dtype)
            drawn = self._drawn(n, rng)
            noise.append(None if drawn is None else drawn[0])
        features, labels = [own.features for own in held_out], [own.labels for own in held_out]
        return [features, labels, noise, [math.inf] * len(counts)]

    @property
    def finished(self) -> bool:
        """Whether there is nothing to fit, or every seed has stopped early."""
        if self._stopping is not None:
            return bool(self._stopping.stopped.all())
        return self.epochs == 0

    def give_up(self, places: Sequence[int]) -> None:
        """See FeatureSource.give_up."""
        if not places:
            return
        self._settled = False
        if self._stopping is not None:
            self._stopping.stopped[list(places)] = True

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the seen classes' features, a random view of each.

        Returns:
            The means of the epoch's losses, and what its end is measured by; with early stopping
            also held_out_loss. A seed that has stopped, and each one after the last epoch, reports
            its best epoch's.
        """
        if not self.epochs:
            return {}
        self._settled = False
        metrics = self._pass()
        with torch.no_grad():
            metrics |= self.stack.in_turn("measure", [task.features[:, 0] for task in self._tasks])
            if self._stopping is not None:
                metrics = self._keep_best(self._stopping, metrics)
        return metrics

    def _batch(self, number: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """A step's features, their class ids, and noise."""
        features, labels = self._task.batch(self._batches.at(number), self._views.at(number))
        return features, labels, self._drawn(self._batch_size, self._noise.at(number))

    def _drawn(self, n: int, rng: ReplicaRng) -> Float[Tensor, "replica n noise"] | None:
        return rng.normal(n, self.one.noise_size) if self.one.noise_size else None

    def _turn(self, step: int) -> dict[str, Float[Tensor, " replica"]]:
        epoch = step // self.steps + 1
        return self._step("loss", self._optimizer, *self._batch(step), shared=[epoch])

    def _step(
        self,
        loss: str,
        optimizer: ReplicaOptimizer,
        *batch: Tensor | None,
        shared: Sequence[int] = (),
    ) -> dict[str, Float[Tensor, " replica"]]:
        """A step down one of the method's losses; what it tells, by name.

        Args:
            loss: its name.
            optimizer: of what is to be moved.
            batch: inputs of the loss, (replica, n, ...) each.
            shared: further ones, which are the same for all seeds.
        """
        found: dict[str, Tensor] = self.stack(loss, *batch, shared=shared)
        if not isinstance(found, dict) or "loss" not in found:
            name = type(self.one).__name__
            raise TypeError(f"{name}.{loss} must be numbers by name, 'loss' among them")
        optimizer.zero_grad()
        # summed over replicas, so that each one's gradient is that of its own mean loss
        found["loss"].sum().backward()
        optimizer.step()
        return {name: value.detach() for name, value in found.items()}

    def _keep_best(
        self, stopping: "EarlyStopping", metrics: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, " replica"]]:
        """Note the epoch; where training is over, go back to the best one."""
        found = self.stack.in_turn("loss", *self._held_out)
        trained, epoch = self.stack.trained, int(self._done) // self.steps
        metrics = {**metrics, "held_out_loss": found["loss"]}
        now = {**prefixed("metrics", metrics), **prefixed("trained", trained)}
        stopping.update(epoch, found["loss"], now)
        result = Kept(now)
        over = stopping.stopped | (epoch == self.epochs)
        result.take(over, {name: stopping.tensors[name] for name in now})
        for name, value in under(result.tensors, "trained").items():
            trained[name].copy_(value)
        return under(result.tensors, "metrics")

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Synthetic features, a part at a time, so that memory does not grow with them."""
        if not self._settled:
            self.stack.state.update(self.stack.in_turn("settled"))
            self._settled = True
        noise = self._drawn(class_ids.shape[1], rng)
        step = max(1, PROMPTS_AT_ONCE // len(class_ids))
        ids = class_ids.split(step, dim=1)
        noises = [None] * len(ids) if noise is None else noise.split(step, dim=1)
        return torch.cat([self.stack("sample", *part) for part in zip(ids, noises, strict=True)], 1)

    def learned(self) -> Mapping[str, Part]:
        """What sample() reads beside the backbone and the classes."""
        inside = f"{self.one.sampler}." if self.one.sampler else ""
        return {
            name.removeprefix(inside): part
            for name, part in self.stack.learned.items()
            if name.startswith(inside)
        }

    def parts(self) -> Mapping[str, Part]:
        """The trained parameters, and what moves them."""
        if not self.epochs:
            return {}
        return {
            "done": self._done,
            "parameters": self.stack.trained,
            "optimizer": self._optimizer,
            "stopping": self._stopping or {},
        }


class EarlyStopping(Kept):
    """Keeps each seed's epoch of the lowest held-out loss; stops it when patience has run out.

    A seed that has stopped is trained on beside the others, as its share of a fused step cannot be
    left out, but to no effect: what it has kept is put back after each epoch.
    """

    def __init__(self, patience: int, warmup: int, n_replicas: int, device: torch.device) -> None:
        """Patience is counted in epochs, behind those of the warm-up."""
        zeros = torch.zeros(n_replicas, dtype=torch.long, device=device)
        super().__init__({"epoch": zeros, "stopped": zeros > 0})
        self._patience, self._warmup = patience, warmup

    @property
    def stopped(self) -> Bool[Tensor, " replica"]:
        """Whose patience has run out."""
        return self.tensors["stopped"]

    def update(self, epoch: int, loss: Tensor, now: Mapping[str, Tensor]) -> None:
        """Take over the seeds that improved; stop those that have not for too long.

        Args:
            epoch: counted from 1.
            loss: held out, (replica,).
            now: what is to be kept of the epoch, (replica, ...) each.
        """
        best = self.tensors.get("loss")
        better = ~self.stopped if best is None else ~self.stopped & (loss < best.to(loss))
        count = torch.full_like(self.tensors["epoch"], epoch)
        self.take(better, {"epoch": count, "loss": loss, **now})
        waited = epoch - self.tensors["epoch"].clamp(min=self._warmup)
        self.tensors["stopped"] = self.stopped | (waited >= self._patience)
