"""A fine-tuner and a generator in one file, as somebody gives it to --plugin."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ship.plugins import FinetunerPlugin, GeneratorPlugin, NamedSettings
from ship.single_seed import (
    SeedPart,
    SeedTask,
    SyntheticSet,
    single_seed_finetuner,
    single_seed_generator,
)


class NearestMeanConfig(NamedSettings):
    """Steps from the text features towards the class means."""

    name: Literal["nearest_mean"] = "nearest_mean"
    step: float = Field(0.1, gt=0, le=1, description="part of the way that an epoch goes")
    epochs: int = Field(4, ge=0, description="steps towards the means")


class NearestMean:
    """Prototypes that move from each class's text feature to the mean of its pictures."""

    def __init__(
        self, config, task: SeedTask, synthetic: SyntheticSet | None, clip, seed: int
    ) -> None:
        self.config, self.task = config, task
        x, labels = task.features[:, 0], task.labels
        if synthetic is not None:
            x = torch.cat([x, synthetic.features])
            labels = torch.cat([labels, synthetic.labels])
        sums = torch.zeros_like(task.text_features).index_add(0, labels, x)
        there = labels.bincount(minlength=len(sums)).unsqueeze(1) > 0
        self.means = torch.where(there, F.normalize(sums, dim=1), task.text_features)
        self.prototypes = task.text_features.clone()

    @property
    def epochs(self) -> int:
        return self.config.epochs

    def train_epoch(self) -> dict[str, Tensor]:
        self.prototypes.lerp_(self.means, self.config.step)
        return {"distance": (self.means - self.prototypes).square().sum(1).mean()}

    def logits(self, pictures: Tensor) -> Tensor:
        return self.task.logit_scale * pictures @ self.prototypes.T

    def learned(self) -> Mapping[str, Tensor]:
        return {"prototypes": self.prototypes, "means": self.means}

    def parts(self) -> Mapping[str, SeedPart]:
        return {"prototypes": self.prototypes}


class NoisyTextConfig(NamedSettings):
    """The text feature plus noise."""

    name: Literal["noisy_text"] = "noisy_text"
    scale: float = Field(0.1, ge=0, description="std of the noise per dimension")


class NoisyText:
    """Nothing is fitted."""

    epochs = 0

    def __init__(self, config, task: SeedTask, clip, seed: int) -> None:
        self.config, self.task = config, task

    def train_epoch(self) -> dict[str, Tensor]:
        return {}

    def sample(self, class_ids: Tensor, rng: torch.Generator) -> Tensor:
        text = self.task.text_features[class_ids]
        noise = torch.randn(text.shape, generator=rng, dtype=torch.float64).to(text)
        return F.normalize(text + self.config.scale * noise, dim=-1)

    def learned(self) -> Mapping[str, Tensor]:
        return {}

    def parts(self) -> Mapping[str, SeedPart]:
        return {}


nearest_mean = FinetunerPlugin(NearestMeanConfig, single_seed_finetuner(NearestMean))
noisy_text = GeneratorPlugin(NoisyTextConfig, single_seed_generator(NoisyText))
