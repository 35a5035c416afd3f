"""Regularized linear adapter: one square map of image features, held near the identity.

x' = normalise(W x), logits = logit_scale * x' T^T against the zero-shot text features T; loss =
cross-entropy + weight / shots * |W - I|^2 (squared Frobenius norm). Source: Fahes et al., the RLA
of arXiv:2410.05270 (ProLIP; there it is the rival that needs no weights of the image tower), and
their code (github.com/astra-vision/ProLIP, methods/RegLinearAdapter.py): Adam with epsilon 1e-4,
300 steps on all pictures at once, each in another crop, rate cosine to 0. The penalty falls
with the shots, so that no validation pictures are needed.

Here a step may be smaller than all pictures (`batch_size`), and `synthetic` acts by ratio, draw and
weight, as in every fine-tuner that trains step by step.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import LinearAdapterConfig
from ship.methods import Draw, Finetuner
from ship.tasks import SeedTask


class LinearAdapter(Finetuner):
    """map: W, to be multiplied from the right, (feature, feature)."""

    stream = "linear_adapter"

    def __init__(
        self, config: LinearAdapterConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self._penalty = config.weight / task.shots
        self._identity = torch.eye(clip.feature_dim).to(self.text)
        self.map = nn.Parameter(self._identity.clone())

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Adam, with the authors' epsilon."""
        return torch.optim.Adam, {"lr": self.config.lr, "eps": 1e-4}

    def loss(
        self,
        features: Float[Tensor, "n feature"],
        labels: Int[Tensor, " n"],
        weights: Float[Tensor, " n"] | None,
    ) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of a batch + weight / shots * |W - I|^2."""
        distance = (self.map - self._identity).square().sum()
        return super().loss(features, labels, weights) + self._penalty * distance

    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "n n_cls"]:
        """logit_scale * cosine of mapped features to the zero-shot text features."""
        return self.zero_shot(F.normalize(pictures @ self.map, dim=-1))
