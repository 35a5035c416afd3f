"""What the prompt-based fine-tuners share: contexts that make a classifier, and their training.

Source: CoOp (arXiv:2109.01134, sec. 3.2) for the prompts; the settings of SHIP's authors' code
(arXiv:2307.07397) for the training: plain SGD (no momentum, decay or warm-up), cosine to 0.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ship.clip import FrozenCLIP, class_prompts, initial_context
from ship.configs import NamePosition
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import (
    Batch,
    BatchLoss,
    BatchStream,
    CosineDescent,
    Part,
    Recorder,
    ReplicaOptimizer,
    ReplicaRng,
    steps_per_epoch,
)


class PromptLearner:
    """R fused contexts, and the text features that they make of a list of class names.

    Class-specific contexts all start from the same vectors, so that at the start both kinds are the
    same classifier (CoOp's code draws them apart if they start at random).

    Attributes:
        ctx: to be trained; (replica, n_ctx, width), class-specific (replica, n_cls, n_ctx, width).

    Raises:
        ValueError: n_ctx leaves no room for a name.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        class_names: Sequence[str],
        seeds: Sequence[int],
        dtype: torch.dtype,
        *,
        n_ctx: int,
        ctx_init: str | None,
        class_specific: bool = False,
        name_position: NamePosition = "end",
    ) -> None:
        self._tower = clip.text
        self._prompts = class_prompts(clip, class_names, n_ctx, name_position)
        # one stream for all of them, so that CoOp's rivals start where CoOp starts
        start = ReplicaRng(seeds, "coop/context", clip.device, dtype)
        ctx = initial_context(clip, n_ctx, ctx_init, start)
        if class_specific:
            ctx = ctx.unsqueeze(1).repeat(1, len(class_names), 1, 1)
        self.ctx = ctx.requires_grad_()
        self._names_are_last = name_position == "end"

    def text_features(self) -> Float[Tensor, "replica n_cls feature"]:
        """The classifier that each replica's contexts make."""
        return self.encode(self.ctx)

    def encode(
        self, ctx: Float[Tensor, "n *per_class n_ctx width"]
    ) -> Float[Tensor, "n n_cls feature"]:
        """Unit-norm text features of all classes under each of n contexts, shared or per class."""
        names = self._prompts.names
        if ctx.ndim == 3 and self._names_are_last:
            lengths = self._prompts.host_lengths
            return self._tower.encode_shared(self._prompts.prefix(ctx), names, lengths)
        n, n_cls = len(ctx), len(names)
        if ctx.ndim == 3:
            ctx = ctx.unsqueeze(1).expand(-1, n_cls, -1, -1)
        class_ids = torch.arange(n_cls, device=ctx.device).repeat(n)
        prompts, eot = self._prompts.assemble(ctx.flatten(0, 1), class_ids)
        return self._tower.encode(prompts, eot).reshape(n, n_cls, -1)


@runtime_checkable
class SgdSettings(Protocol):
    """What a fine-tuner's settings say about its training."""

    @property
    def lr(self) -> float:
        """SGD's learning rate at the start."""

    @property
    def epochs(self) -> int:
        """Passes over the real features."""

    @property
    def batch_size(self) -> int:
        """Real features a step."""


class SgdTraining:
    """Epochs of SGD over a task's real features, with synthetic ones beside them if there are any.

    Attributes:
        allowed: classes that the loss runs over, (replica, n_cls): the seen ones; None: all, where
            synthetic features train the unseen ones too.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        task: Task,
        synthesizer: Synthesizer | None,
        seeds: Sequence[int],
        configs: Sequence[SgdSettings],
        recorder: Recorder | None,
    ) -> None:
        config = configs[0]  # what shapes the training is the same in all replicas
        self.allowed: Bool[Tensor, "replica n_cls"] | None = None if synthesizer else task.seen
        self._parameters = dict(parameters)
        self._task = task
        self._synthesizer = synthesizer
        self._batches = BatchStream(task.counts, ReplicaRng(seeds, "coop/batches"))
        self._views = ReplicaRng(seeds, "coop/views", task.features.device)
        self._batch_size = min(config.batch_size, task.n_nominal)
        trained = list(self._parameters.values())
        optimizer = ReplicaOptimizer(torch.optim.SGD, trained, configs)
        steps = steps_per_epoch(task.n_nominal, self._batch_size)
        self._descent = CosineDescent(optimizer, config.epochs, steps, recorder)

    def epoch(self, loss: BatchLoss) -> dict[str, Float[Tensor, " replica"]]:
        """One pass over the real features; the mean loss of its steps.

        Args:
            loss: of a batch, in parts.
        """
        return {"loss": self._descent.epoch(self._batch, loss)}

    def _batch(self) -> Batch:
        features, labels = self._task.batch(self._batches.next(self._batch_size), self._views)
        if self._synthesizer is None:
            return features, labels, None
        return self._synthesizer.join(features, labels)

    def state_dict(self) -> dict[str, Tensor]:
        """Detached copies of the parameters."""
        return {name: value.detach().clone() for name, value in self._parameters.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the parameters back."""
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(state[name])

    def parts(self) -> Mapping[str, Part]:
        """The parameters, what moves them, and where the streams are."""
        return {
            "parameters": self._parameters,
            "descent": self._descent,
            "batches": self._batches,
            "views": self._views,
            "synthesizer": self._synthesizer or {},
        }
