"""Linear probe: logistic regression on features, from the zero-shot classifier on.

logits = logit_scale * x W^T + b, as CLIP's own linear probe (arXiv:2103.00020, sec. 3.2) but by
default started at W = text features, b = 0 (as in WiSE-FT, arXiv:2109.01903). Classes without
features, real or synthetic, keep their initial weights: the loss runs over the other ones.

`synthetic` acts by ratio, draw and weight, as in every fine-tuner that trains step by step.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import LinearProbeConfig
from ship.methods import Draw, Finetuner
from ship.tasks import SeedTask


class LinearProbe(Finetuner):
    """weight, bias: (n_cls, feature) and (n_cls,).

    AdamW without decay, which would draw classes without data away from where they start.
    """

    stream = "linear_probe"

    def __init__(
        self, config: LinearProbeConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self._start = self.text if config.init == "zero_shot" else torch.zeros_like(self.text)
        self.weight = nn.Parameter(self._start.clone())
        self.bias = nn.Parameter(torch.zeros_like(self.text[:, 0]))

    def loss(
        self,
        features: Float[Tensor, "n feature"],
        labels: Int[Tensor, " n"],
        weights: Float[Tensor, " n"] | None,
    ) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of a batch + l2 / 2 * |W - W_0|^2 (b is not penalised)."""
        distance = (self.weight - self._start).square().sum()
        l2: float = self.config.l2
        return super().loss(features, labels, weights) + l2 / 2 * distance

    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "n n_cls"]:
        """logit_scale * x W^T + b."""
        return self.logit_scale * (pictures @ self.weight.T) + self.bias
