"""What the prompt-based fine-tuners share: contexts that make a classifier, and their training.

Source: CoOp (arXiv:2109.01134, sec. 3.2) for the prompts; the settings of SHIP's authors' code
(arXiv:2307.07397) for the training: plain SGD (no momentum, decay or warm-up), cosine to 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP, InnerTokens, class_prompts, initial_context
from ship.configs import NamePosition
from ship.finetuners.stream_trained import StreamTrained
from ship.finetuners.training_set import TrainingStream
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import ReplicaLinear, ReplicaOptimizer, ReplicaRng


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
        self, ctx: Float[Tensor, "n *per_class n_ctx width"], inner: InnerTokens | None = None
    ) -> Float[Tensor, "n n_cls feature"]:
        """Unit-norm text features of all classes under each of n contexts, shared or per class.

        Args:
            ctx: the contexts.
            inner: what takes the places of shared contexts before the name, inside the tower.
        """
        names = self._prompts.names
        if ctx.ndim == 3 and self._names_are_last:
            lengths = self._prompts.host_lengths
            return self._tower.encode_shared(self._prompts.prefix(ctx), names, lengths, inner)
        n, n_cls = len(ctx), len(names)
        if ctx.ndim == 3:
            ctx = ctx.unsqueeze(1).expand(-1, n_cls, -1, -1)
        class_ids = torch.arange(n_cls, device=ctx.device).repeat(n)
        prompts, eot = self._prompts.assemble(ctx.flatten(0, 1), class_ids)
        return self._tower.encode(prompts, eot).reshape(n, n_cls, -1)


def uniform_linear(n_in: int, n_out: int, rng: ReplicaRng) -> ReplicaLinear:
    """torch.nn.Linear's own start: weights and biases U(-b, b), b = n_in^-1/2.

    It is made of normal noise by its distribution.

    Args:
        n_in, n_out: sizes.
        rng: a stream for each replica.
    """
    layer = ReplicaLinear(n_in, n_out, rng, std=1.0)
    with torch.no_grad():
        layer.bias.copy_(rng.normal(1, n_out))
        for value in (layer.weight, layer.bias):
            value.copy_((2 * torch.special.ndtr(value) - 1) / n_in**0.5)
    return layer


@runtime_checkable
class PromptSettings(Protocol):
    """What a fine-tuner's settings say about its contexts and their training."""

    @property
    def n_ctx(self) -> int:
        """Learned context vectors."""

    @property
    def ctx_init(self) -> str | None:
        """Words that they start from; None: random."""

    @property
    def lr(self) -> float:
        """The learning rate at the start."""

    @property
    def epochs(self) -> int:
        """Passes over the real features."""

    @property
    def batch_size(self) -> int:
        """Real features a step."""


def shared_contexts(
    clip: FrozenCLIP, task: Task, seeds: Sequence[int], config: PromptSettings
) -> PromptLearner:
    """Contexts that all classes share, before the class name.

    Args:
        clip, task, seeds: as every fine-tuner is built.
        config: says how many there are, and what they start from.
    """
    return PromptLearner(
        clip,
        task.class_names,
        seeds,
        task.features.dtype,
        n_ctx=config.n_ctx,
        ctx_init=config.ctx_init,
    )


# Of parameters and their learning rate.
Optimizing: TypeAlias = Callable[[Sequence[Tensor], float], ReplicaOptimizer]


def plain_sgd(parameters: Sequence[Float[Tensor, "replica ..."]], lr: float) -> ReplicaOptimizer:
    """Without momentum and decay.

    Args:
        parameters: that it moves.
        lr: their learning rate at the start.
    """
    return ReplicaOptimizer(torch.optim.SGD, parameters, lr)


class PromptTrained(StreamTrained):
    """R fused contexts that are trained; classes are told by the cosine to their text features.

    learner: the contexts.
    """

    def __init__(
        self,
        learner: PromptLearner,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
        config: PromptSettings,
        beside: Mapping[str, Float[Tensor, "replica ..."]] | None = None,
        optimizing: Optimizing = plain_sgd,
    ) -> None:
        """Be ready for the first epoch.

        Args:
            learner: the contexts.
            task, synthesizer, clip, seeds: as every fine-tuner is built.
            config: says how they are trained.
            beside: what is trained beside the contexts, by name.
            optimizing: makes the optimizer of the contexts and of what is beside them.
        """
        self.learner = learner
        self._task = task
        parameters = {"ctx": learner.ctx, **(beside or {})}
        # one stream for all of them, so that rivals see the same batches
        stream = TrainingStream(task, synthesizer, seeds, config.batch_size, "coop")
        optimizer = optimizing(list(parameters.values()), config.lr)
        super().__init__(parameters, optimizer, stream, config.epochs)

    def text_features(self) -> Float[Tensor, "replica n_cls feature"]:
        """The classifier that each replica's contexts make."""
        return self.learner.text_features()

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """logit_scale * cosine to the learned prompts."""
        return self._scores(pictures, self.text_features())

    def _scores(self, features: Tensor, text: Tensor) -> Tensor:
        return self._task.logit_scale * features @ text.transpose(1, 2)
