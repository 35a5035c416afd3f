"""Trains a fine-tuner that is written for one seed, all seeds side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.finetuners.training_set import TrainingStream, training_set
from ship.methods import Draw, Finetuner, Stack, require_settings
from ship.synthesis import Synthesizer
from ship.tasks import SeedTask, Task
from ship.training import CosineDescent, Part


class FusedFinetuner:
    """The classifiers of all seeds over a task's classes: one method for each, run as one.

    stack: the methods.
    choices: settings that matter at inference alone, each tried on the selection split.
    epochs: that train_epoch is to be called for; 0 where the method has no parameters.
    """

    def __init__(
        self,
        kind: type[Finetuner],
        config: Any,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        each_step = synthesizer if kind.feed == "stream" else None
        rows = training_set(task, None if each_step else synthesizer)
        ones = [
            kind(
                config,
                SeedTask.of(
                    task,
                    replica,
                    synthetic=synthesizer is not None,
                    fixed=None if kind.feed == "stream" else rows.of(replica),
                ),
                clip,
                Draw(seed, task.features),
            )
            for replica, seed in enumerate(seeds)
        ]
        self.one = ones[0]
        self.stack = Stack(ones, task.features.device)
        self.choices = self.one.choices
        self.epochs = 0
        if self.stack.trained or kind.feed == "own":
            require_settings(config, "epochs", *(["batch_size"] if kind.feed != "own" else []))
            self.epochs = config.epochs
        if not self.epochs or kind.feed == "own":
            return
        purpose = self.one.stream
        self._feed = TrainingStream(rows, each_step, seeds, config.batch_size, purpose)
        self._descent = CosineDescent(self.stack.optimizer(), self.epochs, self._feed.steps)

    def loss(
        self,
        features: Float[Tensor, "replica n feature"],
        labels: Int[Tensor, "replica n"],
        weights: Float[Tensor, "replica n"] | None,
    ) -> Float[Tensor, " replica"]:
        """Of a batch of each seed, to be minimised."""
        found: Tensor = self.stack("loss", features, labels, weights)
        if not isinstance(found, Tensor) or found.shape != (len(labels),):
            raise TypeError(
                f"{type(self.one).__name__}.loss must be one number, a tensor of no axis"
            )
        return found

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the real features or the fixed rows, or what the method itself does."""
        if not self.epochs:
            return {}
        if self.one.feed == "own":
            with torch.no_grad():
                return {"loss": self.stack("epoch")}
        return {"loss": self._descent.epoch(self._feed.next, self._losses)}

    def _losses(
        self, features: Tensor, labels: Tensor, weights: Tensor | None
    ) -> Iterator[Float[Tensor, " replica"]]:
        """Parts that add up to the loss: some seeds and rows at a time, where all are too many."""
        n_seeds, n = labels.shape
        most = self.one.at_once
        if most is None or most >= n_seeds * n:
            yield self.loss(features, labels, weights)
            return
        weights = torch.ones_like(features[..., 0]) if weights is None else weights
        shares = weights / weights.sum(1, keepdim=True)
        for first in range(0, n_seeds, most):
            seeds = slice(first, min(first + most, n_seeds))
            step = max(1, most // n_seeds)
            for rows in (slice(start, start + step) for start in range(0, n, step)):
                batch = (x[seeds, rows] for x in (features, labels, weights))
                part = self.stack("loss", *batch, seeds=seeds) * shares[seeds, rows].sum(1)
                yield F.pad(part, (first, n_seeds - seeds.stop))

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Class scores of the same pictures under every seed."""
        found: Tensor = self.stack("logits", shared=(pictures, dict(choice)))
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Detached copies of what training changes of the method."""
        return {name: value.detach().clone() for name, value in self._changed.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave."""
        for name, value in self._changed.items():
            value.copy_(state[name])

    def learned(self) -> Mapping[str, Part]:
        """What logits() reads beside the backbone and the classes."""
        return dict(self.stack.learned)

    def parts(self) -> Mapping[str, Part]:
        """What training changes."""
        if not self.epochs:
            return {}
        if self.one.feed == "own":
            return dict(self._changed)
        return {**self._changed, "descent": self._descent, "stream": self._feed}

    @property
    def _changed(self) -> dict[str, Tensor]:
        remembered = {name: self.stack.state[name] for name in self.one.remembered}
        return {**self.stack.trained, **remembered}
