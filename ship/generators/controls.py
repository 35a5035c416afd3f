"""Controls: what a generator must beat (the text feature alone) and cannot (real pictures)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.replicas import ReplicaRng, random_views
from ship.settings import Settings
from ship.task import Task


class GaussianTextConfig(Settings):
    """Control: the class's text feature plus isotropic noise, as if it were a picture's feature."""

    name: Literal["gaussian_text"] = "gaussian_text"
    scale: float = Field(
        0.0, ge=0, description="std of the noise per dimension; 0: the text feature"
    )


class NoGeneratorConfig(Settings):
    """No synthetic features: the fine-tuner sees base classes alone."""

    name: Literal["none"] = "none"


class RealPicturesConfig(Settings):
    """Ceiling: real training pictures of the new classes (drawn with replacement)."""

    name: Literal["real"] = "real"


class GaussianText:
    """Features drawn around the zero-shot text feature of the class; nothing is fitted."""

    epochs = 0
    finished = True

    def __init__(
        self, config: GaussianTextConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        self.config = config
        self._text_features = task.text_features

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to fit."""
        return {}

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """Text feature + scale * N(0, I), normalised."""
        text = self._text_features[class_ids]
        if self.config.scale == 0:
            return text
        noise = rng.normal(class_ids.shape[1], text.shape[-1])
        return F.normalize(text + self.config.scale * noise, dim=-1)


class RealPictures:
    """Features of real training pictures of the new classes: the ceiling of any generator."""

    epochs = 0
    finished = True

    def __init__(
        self, config: RealPicturesConfig, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> None:
        self._features = task.unseen_features
        self._first = task.unseen_first
        self._count = task.unseen_count

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to fit."""
        return {}

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """A random picture of the class's few-shot draw, in a random view."""
        size = class_ids.shape[1]
        first = self._first.gather(1, class_ids)
        count = self._count.gather(1, class_ids)
        rows = first + rng.integers(2**31 - 1, size) % count
        return random_views(self._features, rows, rng)
