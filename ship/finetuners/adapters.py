"""Small maps of image features in front of the zero-shot classifier: CLIP-Adapter, and RLA.

CLIP-Adapter (arXiv:2110.04544) is a bottleneck MLP, mixed in by a ratio: x' = normalise(ratio *
A(x) + (1 - ratio) * x), A(x) = ReLU(W_2 ReLU(W_1 x)) (sec. 3.2; a second ReLU and no biases as in
the authors' code); logits = logit_scale * x' T^T against the zero-shot text features T. A is
homogeneous, so that unit-norm features give what the authors' raw ones do.

The regularized linear adapter is one square map, held near the identity: x' = normalise(W x), loss
= cross-entropy + weight / shots * |W - I|^2 (squared Frobenius norm). Source: Fahes et al., the RLA
of arXiv:2410.05270 (ProLIP; there it is the rival that needs no weights of the image tower), and
their code (github.com/astra-vision/ProLIP, methods/RegLinearAdapter.py): Adam with epsilon 1e-4,
300 steps on all pictures at once, each in another crop, rate cosine to 0. The penalty falls
with the shots, so that no validation pictures are needed. Here a step may be smaller than all
pictures (`batch_size`).

`synthetic` acts by ratio, draw and weight, as in every fine-tuner that trains step by step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import CLIPAdapterConfig, LinearAdapterConfig
from ship.methods import Choice, Draw, Features, Finetuner, Labels, Logits, Rng, Weights
from ship.tasks import SeedTask

# Tried on the selection split beside the configured ratio; 0: the adapter ignored.
RATIOS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class CLIPAdapter(Finetuner):
    """down, up: the bottleneck's weights, (feature, hidden) and (hidden, feature)."""

    stream = "clip_adapter"

    def __init__(
        self, config: CLIPAdapterConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        # the configured ratio first, so that it wins a tie
        ratios = (config.ratio, *RATIOS) if config.search else (config.ratio,)
        self.choices = tuple({"ratio": ratio} for ratio in dict.fromkeys(ratios))
        size, start = clip.feature_dim, draw("clip_adapter/weights")
        hidden = max(1, size // config.reduction)
        self.down = nn.Parameter(_initial(size, hidden, start))
        self.up = nn.Parameter(_initial(hidden, size, start))

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * cosine of adapted features to the zero-shot text features."""
        ratio = choice["ratio"]
        adapted = F.relu(F.relu(pictures @ self.down) @ self.up)
        return self.zero_shot(F.normalize(ratio * adapted + (1 - ratio) * pictures, dim=-1))


def _initial(n_in: int, n_out: int, rng: Rng) -> Float[Tensor, "n_in n_out"]:
    """Normal weights with the variance of torch's linear layers, 1 / (3 n_in)."""
    std: float = (3 * n_in) ** -0.5
    return std * rng.normal(n_in, n_out)


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

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Weighted mean cross-entropy of a batch + weight / shots * |W - I|^2."""
        distance = (self.map - self._identity).square().sum()
        return super().loss(features, labels, weights) + self._penalty * distance

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """logit_scale * cosine of mapped features to the zero-shot text features."""
        return self.zero_shot(F.normalize(pictures @ self.map, dim=-1))
