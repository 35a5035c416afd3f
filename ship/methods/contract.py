"""The contract of a method, which is written for one seed as in its paper.

A method is an nn.Module, built by (settings, SeedTask, FrozenCLIP, Draw). Its parameters are what
it learns. What else differs between seeds is a buffer: persistent where it is part of what has been
learned. Plain attributes are the same for all seeds, which ship.methods.stack checks.

What runs it owns epochs, optimizers, batches, random streams, checkpoints and what is kept.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.replicas import sent, stream_of
from ship.tasks import SeedTask

# What methods are called with and give, of one seed; features have unit norm.
Features: TypeAlias = Float[Tensor, "n feature"]
Labels: TypeAlias = Int[Tensor, " n"]  # places among the task's classes
Weights: TypeAlias = Float[Tensor, " n"] | None  # of each feature's loss; None: all 1
Noise: TypeAlias = Float[Tensor, "n noise"] | None  # standard normal; None: it takes none
Choice: TypeAlias = Mapping[str, float]  # settings that matter at inference alone
Logits: TypeAlias = Float[Tensor, "n n_cls"]


class Rng:
    """One seed's random stream of a purpose; it draws on the CPU, the same for every device.

    like: has the type and the device of what is drawn.
    """

    def __init__(self, seed: int, like: Tensor, purpose: str) -> None:
        self._stream = stream_of(seed, purpose)
        self._like = like

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise, of the task's type and on its device."""
        drawn = torch.randn(shape, generator=self._stream, dtype=self._like.dtype)
        return sent(drawn, self._like.device)


Draw: TypeAlias = Callable[[str], Rng]
"""One seed's streams by purpose, each from its start: draw("clip_adapter/weights").normal(3, 4).

A purpose names one stream for all methods that use it, so that rivals start alike.
"""


class Method(nn.Module):
    """What all methods share.

    stream: names the random streams of batches and views; by default as the settings are named.
    vmapped: False: it reads values on the host, or its sizes depend on values, which no vmap can
        run; its seeds then run one after the other, with the same numbers.
    rows: a module of it whose tensors have a row for each picture, so that seeds may differ in how
        many there are, and what was kept may have others than what it is put back into.
    """

    stream: str = ""
    vmapped: ClassVar[bool] = True
    rows: ClassVar[str | None] = None

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "forward" in vars(cls):
            raise TypeError(f"{cls.__name__}.forward is what a method is called through: rename it")

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__()
        self.config = config
        self.stream = self.stream or config.name
        self.text = task.text_features
        self.logit_scale = task.logit_scale

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """What moves the parameters, elementwise, and its settings."""
        return torch.optim.AdamW, {"lr": self.config.lr, "weight_decay": 0}

    def forward(self, name: str, *inputs: Any) -> Any:
        """One of its functions by name: torch.func.functional_call calls forward alone."""
        return getattr(self, name)(*inputs)

    def zero_shot(self, pictures: Features) -> Logits:
        """logit_scale * cosine to the text features of the dataset's template."""
        return self.logit_scale * pictures @ self.text.T


class Finetuner(Method):
    """A classifier over the task's classes, trained on real and synthetic features.

    feed: "stream": each step has its own synthetic features; "fixed": they are drawn once, and are
        there when it is built (SeedTask.fixed); "own": likewise, and it has epochs of its own.
    remembered: buffers that its own epochs change, beside its parameters.
    choices: settings that matter at inference alone, each tried on the selection split.
    at_once: rows of a batch, of all seeds together, whose gradients are taken at once, so that the
        loss (a weighted mean over rows) may come in parts; None: all.
    allowed: classes that its loss runs over, (n_cls,); None: all, as features of all are there.
    """

    feed: ClassVar[Literal["stream", "fixed", "own"]] = "stream"
    remembered: ClassVar[tuple[str, ...]] = ()
    choices: tuple[Mapping[str, float], ...] = ({},)
    at_once: int | None = None
    allowed: Bool[Tensor, " n_cls"] | None

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.register_buffer("allowed", None if task.synthetic else task.seen, persistent=False)

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Of a batch, to be minimised: by default the cross-entropy of the first choice's logits.

        Args:
            features: unit norm.
            labels: of each feature, places among the task's classes.
            weights: of each feature's loss; None: all 1.
        """
        return self.cross_entropy(self.logits(features, self.choices[0]), labels, weights)

    def rate(self, base: float, epoch: float, epochs: int) -> float:
        """A learning rate at a step: by default it falls to 0 along a cosine, step by step.

        Args:
            base: as optimizer() has it.
            epoch: how many are done, with the part of the next one that lies before the step.
            epochs: of the training.
        """
        return base * (1 + math.cos(math.pi * min(1.0, epoch / epochs))) / 2

    def epoch(self) -> Float[Tensor, ""]:
        """Where the feed is its own: change what is learned and remembered, in place; the loss."""
        raise NotImplementedError

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """Class scores; those of a picture are the ones that it has alone.

        Args:
            pictures: unit norm.
            choice: of choices.
        """
        raise NotImplementedError

    def cross_entropy(self, logits: Logits, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Weighted mean over the rows, over the allowed classes."""
        if self.allowed is not None:
            logits = logits.masked_fill(~self.allowed, -torch.inf)
        # not F.cross_entropy, which vmap takes apart into a dozen operators
        losses = -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        if weights is None:
            return losses.mean()
        return (losses * weights).sum() / weights.sum()


class Generator(Method):
    """Features of images of any class of the task, of classes without pictures above all.

    sampler: a module of it; what is beneath it is all that sample() reads of what is learned, as
        the rest (an encoder, a critic) is for fitting alone; "": all is read.
    noise_size: standard normal numbers that a feature is made of; 0: it takes no noise.
    patience: epochs without a lower loss of the validation pictures before a seed stops, and keeps
        its best epoch; counted behind those of `warmup`. None: it never stops early.
    """

    sampler: ClassVar[str] = ""
    noise_size: int = 0
    patience: int | None = None
    warmup: int = 0

    def loss(
        self, features: Features, labels: Labels, noise: Noise, epoch: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Of a batch: "loss", to be minimised, and what else is worth a curve, by name.

        Args:
            features: of pictures of the seen classes, unit norm.
            labels: of each feature, places among the task's classes.
            noise: None where it takes none.
            epoch: from 1; infinity: as behind all that settings let grow over epochs.
        """
        raise NotImplementedError

    def measure(self, features: Features) -> dict[str, Float[Tensor, ""]]:
        """What an epoch's end is told of beside the mean of its losses, by name.

        Args:
            features: of all its pictures as test pictures are seen, unit norm.
        """
        return {}

    def settled(self) -> dict[str, Tensor]:
        """Buffers that follow from what it has learned, by name; found before the first sample().

        They are what is too slow to be found for each sample, and is not kept, as the universe of
        classes may be another where what was learned is put back.
        """
        return {}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """One unit-norm feature for each class id."""
        raise NotImplementedError
