"""A fine-tuner and a generator in one file, for --plugin."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ship.methods import Finetuner, Generator
from ship.plugins import FinetunerSettings, GeneratorSettings


class NearestMean(Finetuner):
    """Prototypes that move from each class's text feature to the mean of its features."""

    training_data = "fixed"  # synthetic features are drawn once, before __init__

    def __init__(self, config, task, clip, draw) -> None:
        super().__init__(config, task, clip, draw)
        x, labels = task.fixed_rows.features[:, 0], task.fixed_rows.labels
        sums = torch.zeros_like(self.text).index_add(0, labels, x)
        has_features = labels.bincount(minlength=len(sums)).unsqueeze(1) > 0
        means = torch.where(has_features, F.normalize(sums, dim=1), self.text)
        self.register_buffer("means", means, persistent=False)  # differs by seed
        self.prototypes = nn.Parameter(self.text.clone())

    def optimizer(self):
        return torch.optim.SGD, {"lr": self.config.step}

    def loss(self, features, labels, weights) -> Tensor:
        return (self.means - self.prototypes).square().sum() / 2

    def logits(self, images: Tensor, choice) -> Tensor:
        return self.logit_scale * images @ self.prototypes.T


class NearestMeanConfig(FinetunerSettings):
    """Steps from the text features towards the class means."""

    method = NearestMean
    name: Literal["nearest_mean"] = "nearest_mean"
    step: float = Field(0.5, gt=0, le=1, description="step size, as a part of the distance")
    epochs: int = Field(4, ge=0, description="passes over the features")
    batch_size: int = Field(64, ge=1, description="features per step")


class NoisyText(Generator):
    """The text feature plus noise; nothing is fitted."""

    def __init__(self, config, task, clip, draw) -> None:
        super().__init__(config, task, clip, draw)
        self.noise_size = self.text.shape[1]

    def sample(self, class_ids: Tensor, noise: Tensor) -> Tensor:
        return F.normalize(self.text[class_ids] + self.config.scale * noise, dim=-1)


class NoisyTextConfig(GeneratorSettings):
    """The text feature plus noise."""

    method = NoisyText
    name: Literal["noisy_text"] = "noisy_text"
    scale: float = Field(0.1, ge=0, description="std of the noise per dimension")
