"""CoOp: context optimisation (arXiv:2109.01134), with synthetic features as SHIP adds them.

Source: the settings of the authors' code of SHIP (arXiv:2307.07397): one context shared by all
classes, "a photo of a" to start from, class name at the end; plain SGD, cosine to 0. With synthetic
features the loss runs over base and new classes together, without over the base classes.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.finetuners.base import classification_loss
from ship.prompts import class_prompts, initial_context
from ship.replicas import BatchStream, ReplicaRng, steps_per_epoch
from ship.settings import Settings
from ship.synthesis import Synthesizer
from ship.task import Task


class CoOpConfig(Settings):
    """CoOp: one learned context shared by all classes, the class name at its end."""

    name: Literal["coop"] = "coop"
    n_ctx: int = Field(4, ge=1, description="learned context vectors")
    ctx_init: str | None = Field("a photo of a", description="words to start from; null: random")
    lr: float = Field(2e-3, gt=0, description="SGD's learning rate, cosine to 0")
    epochs: int = Field(200, ge=0, description="passes over the real features")
    batch_size: int = Field(32, ge=1, description="real features a step")


class CoOp:
    """R fused CoOp contexts."""

    choices: tuple[Mapping[str, float], ...] = ({},)

    def __init__(
        self,
        config: CoOpConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self.config = config
        self._task = task
        self._synthesizer = synthesizer
        self._tower = clip.text
        self._prompts = class_prompts(clip, task.class_names, config.n_ctx)
        dtype = task.features.dtype
        start = ReplicaRng(seeds, "coop/context", clip.device, dtype)
        self.ctx = initial_context(clip, config.n_ctx, config.ctx_init, start).requires_grad_()
        self._batches = BatchStream(task.counts, ReplicaRng(seeds, "coop/batches"))
        self._views = ReplicaRng(seeds, "coop/views", clip.device)
        self._batch_size = min(config.batch_size, task.n_nominal)
        self._steps = steps_per_epoch(task.n_nominal, self._batch_size)
        self._optimizer = torch.optim.SGD([self.ctx], lr=config.lr)
        total = max(1, config.epochs * self._steps)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, total)

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self.config.epochs

    def text_features(self) -> Float[Tensor, "replica n_cls feature"]:
        """The classifier that each replica's context makes."""
        prefix = self._prompts.prefix(self.ctx)
        return self._tower.encode_shared(prefix, self._prompts.names, self._prompts.lengths - 1)

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the real features."""
        seen_only = None if self._synthesizer else self._task.seen
        total = self._task.features.new_zeros(self._task.n_replicas)
        for _ in range(self._steps):
            rows = self._batches.next(self._batch_size)
            features, labels = self._task.batch(rows, self._views)
            weights = None
            if self._synthesizer:
                features, labels, weights = self._synthesizer.join(features, labels)
            logits = self._task.logit_scale * features @ self.text_features().transpose(1, 2)
            loss = classification_loss(logits, labels, seen_only, weights)
            self._optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            self._optimizer.step()
            self._schedule.step()
            total += loss.detach()
        return {"loss": total / self._steps}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine to the learned prompts."""
        return self._task.logit_scale * pictures @ self.text_features().transpose(1, 2)

    def state(self) -> dict[str, Tensor]:
        """The contexts."""
        return {"ctx": self.ctx.detach().clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put the contexts back."""
        with torch.no_grad():
            self.ctx.copy_(state["ctx"])
