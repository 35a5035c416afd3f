"""A plugin file whose fine-tuner waits in its fourth step until a test lets it continue.

It waits for a file `open` in the folder SHIP_TEST_GATE (an environment variable). It logs each step
to the file `calls` in that folder, as SHIP_TEST_NODE:SIGN, and writes its process ID to
`waiting-SIGN`.
"""

import os
import time
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ship.methods import Finetuner, Generator
from ship.plugins import FinetunerSettings, GeneratorSettings


class NoisyText(Generator):
    """The text feature plus noise; nothing is fitted."""

    def __init__(self, config, task, clip, draw) -> None:
        super().__init__(config, task, clip, draw)
        self.noise_size = self.text.shape[1]

    def sample(self, class_ids: Tensor, noise: Tensor) -> Tensor:
        return F.normalize(self.text[class_ids] + 0.02 * noise, dim=-1)


class NoisyTextConfig(GeneratorSettings):
    """The text feature plus noise."""

    method = NoisyText
    name: Literal["noisy_text"] = "noisy_text"


class Linear(Finetuner):
    """A linear classifier, initialized with the text features."""

    def __init__(self, config, task, clip, draw) -> None:
        super().__init__(config, task, clip, draw)
        self.weight = nn.Parameter(self.text.clone())
        self.n_steps = 0

    def optimizer(self):
        return torch.optim.Adam, {"lr": 3e-3}

    def loss(self, features, labels, weights) -> Tensor:
        self.n_steps += 1
        gate, sign = Path(os.environ["SHIP_TEST_GATE"]), f"{self.config.sign:g}"
        with (gate / "calls").open("a", encoding="utf-8") as log:
            log.write(f"{os.environ['SHIP_TEST_NODE']}:{sign}\n")
        if self.n_steps == 4 and not (gate / "open").exists():
            (gate / f"waiting-{sign}").write_text(str(os.getpid()), "utf-8")
            while not (gate / "open").exists():
                time.sleep(0.05)
        return F.cross_entropy(self.logit_scale * features @ self.weight.T, labels)

    def logits(self, images: Tensor, choice) -> Tensor:
        return self.config.sign * self.logit_scale * images @ self.weight.T


class LinearConfig(FinetunerSettings):
    """A linear classifier; with a negative sign it predicts the least probable class."""

    method = Linear
    name: Literal["linear"] = "linear"
    sign: float = Field(1.0, description="factor of the logits")
    epochs: int = Field(8, ge=0, description="passes over the features")
    batch_size: int = Field(512, ge=1, description="features per step")
