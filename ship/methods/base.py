"""The base classes of a method.

Write a method for a single seed, as its paper does. `ship.methods.stack` runs it for all seeds of a
trial in one call (torch.vmap).

A method is an `nn.Module` with the constructor arguments (settings, SeedTask, FrozenCLIP, Draw).

- Parameters are trained, unless `requires_grad` is False.
- All other tensors that differ between seeds must be buffers. Persistent buffers are saved with the
  model: use them for what the method has learned.
- Plain attributes (all that are not parameters, buffers or submodules) must be the same for all
  seeds; `ship.methods.stack` checks this.

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
Noise: TypeAlias = Float[Tensor, "n noise"] | None  # standard normal; None if noise_size is 0
Choice: TypeAlias = Mapping[str, float]  # inference options by name, e.g. {"alpha": 1.0}
Logits: TypeAlias = Float[Tensor, "n n_cls"]


class Rng:
    """A random stream of one seed for one purpose.

    Numbers are drawn on the CPU and then copied, so they are the same on every device.

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
            purpose: Name of the stream. Streams of different names are independent.
        """
        self._stream = make_stream(seed, purpose)
        self._like = like

    def normal(self, *shape: int) -> Tensor:
        """Draw the next standard normal numbers, with the dtype and on the device of `like`.

        Args:
            shape: Size of each dimension of the result.
        """
        noise = torch.randn(shape, generator=self._stream, dtype=self._like.dtype)
        return to_device(noise, self._like.device)


Draw: TypeAlias = Callable[[str], Rng]
"""A function that starts a random stream of the seed: draw("clip_adapter/weights").normal(3, 4).

Its argument is the purpose of the stream. Each call starts the stream from the beginning, so two
calls with the same purpose return the same numbers. Methods can share a purpose to start from the
same weights.
"""


class Method(nn.Module):
    """The base class of fine-tuners and generators.

    Attributes:
        stream: Prefix of the names of the random streams that choose batches, augmented views and
            noise. Methods with the same prefix train on the same batches. Defaults to
            `config.name`.
        vmapped: Whether all seeds run at once under `torch.vmap`. Set it to False if the method
            reads the values of tensors (`.item()`, `if x > 0`) or has sizes that depend on values.
            The seeds then run one after the other, with the same results.
        rows: Name of the persistent buffer or submodule whose tensors have as many rows as there
            are training data, such as a cache with one row per image. A saved state with any number
            of rows can then be loaded. Seeds with fewer rows are padded: integers with -1, all
            other tensors with 0. None if the method has no such tensors.
        config: Settings of the method.
        text: Zero-shot text features of the classes, unit norm, (n_cls, feature).
        logit_scale: CLIP's factor on cosines.

    Example:
        >>> class ScaledText(Finetuner):
        ...     def __init__(self, config, task, clip, draw):
        ...         super().__init__(config, task, clip, draw)
        ...         self.scale = nn.Parameter(self.text.new_ones(self.text.shape[1]))  # trained
        ...     def logits(self, images, choice):
        ...         return self.zero_shot(images * self.scale)
    """

    stream: str = ""
    vmapped: ClassVar[bool] = True
    rows: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls):
            raise TypeError(
                f"{cls.__name__}.forward cannot be overridden: all functions are called through "
                "Method.forward. Rename your function"
            )

    def __init__(self, config: Any, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        """Build the method of one seed, before its first epoch.

        Args:
            config: Settings of the method.
            task: Task of the seed.
            clip: Frozen backbone.
            draw: Function that starts a random stream of the seed, by purpose.
        """
        super().__init__()
        self.config = config
        self.stream = self.stream or config.name
        self.text = task.text_features
        self.logit_scale = task.logit_scale

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return the class of the optimizer and its keyword arguments, which must include "lr".

        Defaults to AdamW with the rate `config.lr` and without weight decay. The optimizer must be
        elementwise, e.g. SGD, Adam or AdamW.

        The optional argument "factors" is a list with a learning-rate factor for each trained
        parameter, in the order of `parameters()`.
        """
        return torch.optim.AdamW, {"lr": self.config.lr, "weight_decay": 0}

    def forward(self, name: str, *inputs: Any) -> Any:
        """Call the method's function `name`, and return its result.

        `torch.func.functional_call` can only call `forward`, so every call goes through it.

        Args:
            name: Name of the function.
            inputs: Arguments of the function.
        """
        return getattr(self, name)(*inputs)

    def zero_shot(self, images: Features) -> Logits:
        """Return the logits of zero-shot CLIP: logit_scale * cosine to `text`.

        Args:
            images: Image features, unit norm, (n, feature).
        """
        return self.logit_scale * images @ self.text.T


class Finetuner(Method):
    """A classifier over the task's classes, trained on real and synthetic features.

    Attributes:
        training_data: Where the training data come from.

            - "stream": Every step gets a batch of images with synthetic features added.
            - "fixed": Synthetic features are drawn once, before the method is built. The
              constructor reads them and the images from `task.fixed_rows`. If the method has
              parameters, they are trained on batches of these rows.
            - "custom": Like "fixed", but the method defines `epoch`, which replaces the steps.
        stateful_buffers: Names of the buffers that `epoch` changes in addition to the parameters.
        inference_grid: Candidates for the inference options, such as a cache's alpha. Each entry
            has a value for every option. Selection evaluates each entry, and picks the best one for
            each seed; if several are equally good, the first of them. The first entry is also used
            in training, and by trials without selection.
        microbatch_size: Maximum number of training rows in one backward pass, all seeds together.
            It bounds memory. None means no limit. With a limit, the loss must be a weighted mean
            over the rows.
        class_mask: Mask of the classes in the loss, (n_cls,). Without synthetic features these are
            the seen classes. With synthetic features it is None, which means all classes.

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
            features: Features with unit norm, (n, feature).
            labels: Label of each feature, an index into the task's classes.
            weights: Loss weight of each feature. None means 1 for all.
        """
        return self.cross_entropy(self.logits(features, self.inference_grid[0]), labels, weights)

    def lr_at(self, base: float, epoch: float, epochs: int) -> float:
        """Return the learning rate of a step. Defaults to a cosine that decays to 0 step by step.

        Args:
            base: Learning rate set in `optimizer()`.
            epoch: Number of finished epochs, including the finished fraction of the current one.
            epochs: Length of the schedule in epochs. It is shorter than configured if the method is
                retrained up to an earlier epoch that selection chose.
        """
        return base * (1 + math.cos(math.pi * min(1.0, epoch / epochs))) / 2

    def epoch(self) -> Float[Tensor, ""]:
        """Train one epoch and return its loss. Required only if `training_data` is "custom".

        Change the parameters and the buffers named in `stateful_buffers` in place. Autograd is off:
        compute gradients with `torch.func.grad`.
        """
        raise NotImplementedError

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return class scores. The scores of an image must not depend on the other images.

        Args:
            images: Image features with unit norm, (n, feature).
            choice: One entry of `inference_grid`.

        Returns:
            Scores of all classes of the task, (n, n_cls). Their softmax gives the probabilities.
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
    """A generator of image features for any class of the task, including classes without images.

    Attributes:
        sampler: Name of the submodule that contains all learned state that `sample()` reads. Only
            this submodule is saved with the model. The rest, such as an encoder or a critic, is
            used for fitting only. "" saves the whole state.
        noise_size: Number of standard normal numbers per feature. If it is 0, the `noise` of
            `loss()` and `sample()` is None.
        patience: Number of epochs without a lower validation loss after which a seed stops and
            returns to its best epoch. None means no early stopping.
        warmup: Number of epochs that do not count towards `patience`.

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
            epoch: 1-based epoch, for a loss that changes in the first epochs, such as a growing
                weight of a term. For the validation loss it is infinity, so that the loss has its
                final form.

        Returns:
            Scalar tensors by name, including "loss".
        """
        raise NotImplementedError

    def epoch_metrics(self, features: Features) -> dict[str, Float[Tensor, ""]]:
        """Return extra metrics to log at the end of an epoch, by name. Defaults to none.

        Args:
            features: Features of all training images without augmentation, unit norm.
        """
        return {}

    def precompute(self) -> dict[str, Tensor]:
        """Return tensors that `sample()` reads as attributes, by name. Defaults to none.

        Override it for values that follow from the learned state but are too slow to compute in
        every `sample()`. It is called before the first `sample()` after each change of the state.

        For each name, register a placeholder in the constructor, e.g.
        `self.register_buffer("means", torch.empty(0), persistent=False)`. The caller replaces it by
        the returned tensor. It must not be persistent, i.e. saved: the tensors depend on the
        classes, and a saved state may be loaded for other classes.
        """
        return {}

    def sample(self, class_ids: Labels, noise: Noise) -> Features:
        """Return one synthetic image feature with unit norm per class ID, (n, feature).

        Args:
            class_ids: Indices into the task's classes, (n,), including classes without images.
            noise: Noise of each feature, or None if `noise_size` is 0.
        """
        raise NotImplementedError
