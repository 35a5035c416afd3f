"""The base classes of a method. A method is written for one seed, as in its paper.

A method is an `nn.Module` with the constructor arguments (settings, SeedTask, FrozenCLIP, Draw).

- Parameters are trained.
- Buffers are all other tensors that differ between seeds. A buffer is persistent if the method has
  learned it.
- Plain attributes are the same for all seeds; `ship.methods.stack` checks this.

The caller handles epochs, optimizers, batches, random streams, checkpoints and saved files.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.seeds import make_stream, to_device
from ship.tasks import SeedTask

# Inputs and outputs of a method's functions, for one seed.
Features: TypeAlias = Float[Tensor, "n feature"]  # unit norm
Labels: TypeAlias = Int[Tensor, " n"]  # indices into the task's classes
Weights: TypeAlias = Float[Tensor, " n"] | None  # loss weight per feature; None means 1 for all
Noise: TypeAlias = Float[Tensor, "n noise"] | None  # standard normal; None if no noise is used
Choice: TypeAlias = Mapping[str, float]  # options that matter only at inference
Logits: TypeAlias = Float[Tensor, "n n_cls"]


class Rng:
    """A random stream of one seed for one purpose.

    Numbers are drawn on the CPU, so that they are the same for every device.

    Example:
        >>> rng = Rng(seed=0, like=torch.empty(0), purpose="my_method/weights")
        >>> rng.normal(3, 4).shape
        torch.Size([3, 4])
    """

    def __init__(self, seed: int, like: Tensor, purpose: str) -> None:
        """Start the stream.

        Args:
            seed: Seed of the stream.
            like: Tensor with the dtype and the device of the numbers to draw.
            purpose: Name of the stream.
        """
        self._stream = make_stream(seed, purpose)
        self._like = like

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers with the dtype and on the device of `like`.

        Args:
            shape: Size of each dimension of the result.
        """
        noise = torch.randn(shape, generator=self._stream, dtype=self._like.dtype)
        return to_device(noise, self._like.device)


Draw: TypeAlias = Callable[[str], Rng]
"""A function that starts a random stream of the seed: draw("clip_adapter/weights").normal(3, 4).

Methods that use the same purpose get the same numbers, so that competing methods start alike.
"""


class Method(nn.Module):
    """The base class of fine-tuners and generators.

    Attributes:
        stream: Name of the random streams of batches and views. Defaults to the method's name in
            its settings.
        vmapped: Whether the seeds run at once under `torch.vmap`. Set it to False if the method
            reads values on the host or has sizes that depend on values. The seeds then run in
            turn, with the same results.
        rows: Name of a buffer, or of a submodule with tensors, that have one row per image. The
            number of rows may differ between seeds, and between a saved state and the method that
            loads it.
        text: Text features of the dataset's template, unit norm, (n_cls, feature).
        logit_scale: CLIP's factor on cosines.

    Example:
        >>> class ScaledText(Finetuner):  # or Generator
        ...     def __init__(self, config, task, clip, draw):
        ...         super().__init__(config, task, clip, draw)
        ...         self.scale = nn.Parameter(self.text.new_ones(self.text.shape[1]))  # trained
        ...     def logits(self, images, choice):
        ...         return self.zero_shot(images * self.scale)
    """

    stream: str = ""
    vmapped: ClassVar[bool] = True
    rows: ClassVar[str | None] = None

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "forward" in vars(cls):
            raise TypeError(
                f"{cls.__name__}.forward cannot be overridden: functions are called through it. "
                "Rename your function"
            )

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        """Build the method of one seed, before its first epoch.

        Args:
            config: Settings of the method.
            task: Task of the seed.
            clip: Frozen backbone.
            draw: Starts random streams of the seed, by purpose.
        """
        super().__init__()
        self.config = config
        self.stream = self.stream or config.name
        self.text = task.text_features
        self.logit_scale = task.logit_scale

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return the class of the optimizer and its keyword arguments, "lr" among them.

        It must be elementwise, e.g. SGD, Adam or AdamW. Defaults to AdamW without weight decay.
        """
        return torch.optim.AdamW, {"lr": self.config.lr, "weight_decay": 0}

    def forward(self, name: str, *inputs: Any) -> Any:
        """Call the method's function `name`, and return its result.

        `torch.func.functional_call` can only call `forward`, so every function goes through it.

        Args:
            name: Name of the function.
            inputs: Its arguments.
        """
        return getattr(self, name)(*inputs)

    def zero_shot(self, images: Features) -> Logits:
        """Return logit_scale * cosine to the text features of the dataset's template.

        Args:
            images: Image features, unit norm, (n, feature).
        """
        return self.logit_scale * images @ self.text.T


class Finetuner(Method):
    """A classifier over the task's classes, trained on real and synthetic features.

    Attributes:
        training_data: Source of the training data. "stream": every step draws new synthetic
            features. "fixed": synthetic features are drawn once, before the method is built
            (SeedTask.fixed). "custom": like "fixed", and the method defines `epoch`.
        stateful_buffers: Names of the buffers that `epoch` changes in addition to the parameters.
        inference_grid: Options that matter only at inference. Each is tried on the selection split.
        microbatch_size: Number of rows of a batch, over all seeds, that one backward pass may take.
            It bounds memory and requires that the loss is a weighted mean over rows. None means no
            limit.
        class_mask: Mask of the classes in the loss, (n_cls,). None means all classes, because all
            of them have features.

    Example:
        >>> class Prototypes(Finetuner):
        ...     training_data = "fixed"
        ...     def __init__(self, config, task, clip, draw):
        ...         super().__init__(config, task, clip, draw)
        ...         rows = task.fixed_rows
        ...         sums = torch.zeros_like(self.text)
        ...         sums = sums.index_add(0, rows.labels, rows.features[:, 0])
        ...         self.register_buffer("means", nn.functional.normalize(sums, dim=-1))
        ...     def logits(self, images, choice):
        ...         return self.zero_shot(images) + self.logit_scale * images @ self.means.T
    """

    training_data: ClassVar[Literal["stream", "fixed", "custom"]] = "stream"
    stateful_buffers: ClassVar[tuple[str, ...]] = ()
    inference_grid: tuple[Mapping[str, float], ...] = ({},)
    microbatch_size: int | None = None
    class_mask: Bool[Tensor, " n_cls"] | None

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        self.register_buffer("class_mask", None if task.synthetic else task.seen, persistent=False)

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the loss of a batch, a scalar to minimize.

        Defaults to the cross-entropy of the logits under the first entry of `inference_grid`.

        Args:
            features: Features with unit norm.
            labels: Label of each feature, an index into the task's classes.
            weights: Loss weight of each feature. None means 1 for all.
        """
        return self.cross_entropy(self.logits(features, self.inference_grid[0]), labels, weights)

    def lr_at(self, base: float, epoch: float, epochs: int) -> float:
        """Return the learning rate of a step. Defaults to a cosine that decays to 0 step by step.

        Args:
            base: Learning rate set in `optimizer()`.
            epoch: Number of finished epochs, including the finished fraction of the current one.
            epochs: Total number of epochs.
        """
        return base * (1 + math.cos(math.pi * min(1.0, epoch / epochs))) / 2

    def epoch(self) -> Float[Tensor, ""]:
        """Train one epoch and return its loss. Required only if `training_data` is "custom".

        The function changes the parameters and the buffers named in `stateful_buffers` in place.
        """
        raise NotImplementedError

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return class scores. The scores of an image must not depend on the other images.

        Args:
            images: Image features with unit norm.
            choice: One entry of `inference_grid`.

        Returns:
            Scores of all classes of the task. Their softmax are the probabilities.
        """
        raise NotImplementedError

    def cross_entropy(self, logits: Logits, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the weighted mean cross-entropy over the classes of `class_mask`.

        Args:
            logits: Class scores of each row.
            labels: Label of each row, an index into the task's classes.
            weights: Loss weight of each row. None means 1 for all.
        """
        if self.class_mask is not None:
            logits = logits.masked_fill(~self.class_mask, -torch.inf)
        # vmap would decompose F.cross_entropy into a dozen operators
        losses = -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        if weights is None:
            return losses.mean()
        return (losses * weights).sum() / weights.sum()


class Generator(Method):
    """A generator of image features of any class of the task, with or without images.

    Attributes:
        sampler: Name of the submodule that has everything `sample()` reads of the learned state.
            The rest, such as an encoder or a critic, is only used for fitting. "" means that
            `sample()` reads the whole state.
        noise_size: Number of standard normal numbers per feature. 0 means no noise.
        patience: Number of epochs without a lower validation loss after which a seed stops and
            returns to its best epoch. None means no early stopping.
        warmup: Number of epochs before `patience` starts counting.

    Example:
        >>> class TextNoise(Generator):
        ...     def __init__(self, config, task, clip, draw):
        ...         super().__init__(config, task, clip, draw)
        ...         self.noise_size = self.text.shape[1]
        ...     def sample(self, class_ids, noise):
        ...         features = self.text[class_ids] + 0.1 * noise
        ...         return nn.functional.normalize(features, dim=-1)
    """

    sampler: ClassVar[str] = ""
    noise_size: int = 0
    patience: int | None = None
    warmup: int = 0

    def loss(
        self, features: Features, labels: Labels, noise: Noise, epoch: float
    ) -> dict[str, Float[Tensor, ""]]:
        """Return values of a batch by name: "loss" is minimized, all others are only logged.

        Args:
            features: Image features of the seen classes, unit norm.
            labels: Label of each feature, an index into the task's classes.
            noise: Noise of each feature, or None if `noise_size` is 0.
            epoch: 1-based epoch. Infinity evaluates the loss with all warm-up schedules completed.

        Returns:
            Scalar tensors by name, "loss" among them.
        """
        raise NotImplementedError

    def epoch_metrics(self, features: Features) -> dict[str, Float[Tensor, ""]]:
        """Return extra metrics to log at the end of an epoch, by name.

        Args:
            features: Features of all training images without augmentation, unit norm.
        """
        return {}

    def precompute(self) -> dict[str, Tensor]:
        """Return buffers computed from the learned state, by name.

        Called before the first `sample()` after a change of the state, for values that are too slow
        to compute for every sample. They are not saved, because the saved state may be loaded with
        another set of classes.
        """
        return {}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Return one synthetic image feature with unit norm per class ID.

        Args:
            class_ids: Classes, as indices into the task's classes. They may be classes without
                images.
            noise: Noise of each feature, or None if `noise_size` is 0.
        """
        raise NotImplementedError
