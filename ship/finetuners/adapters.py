"""Adapters beside the zero-shot classifier: CLIP-Adapter, the linear adapter (RLA), Tip-Adapter.

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

Of both, `synthetic` acts by ratio, draw and weight, as where one trains step by step.

Tip-Adapter (arXiv:2207.09519) is a key-value cache of features: logits = logit_scale * x W^T +
alpha * exp(-beta (1 - x K^T)) V. Keys K are few-shot features (mean over views), values V their
one-hot labels. Synthetic features of unseen classes join the cache as further keys; in -F they are
also training data for the keys. -F trains at the configured alpha and beta; both are chosen on the
selection split. The official code (github.com/gaopengcuhk/Tip-Adapter) trains at init_alpha, which
differs by dataset (search_spaces/reference.yaml has it), and init_beta, which is 1, and chooses
them on validation features, on ImageNet on test;
everywhere -F's epoch is the best on test, and the better of the two accuracies on test is reported.
Of `synthetic`, per_class says how many keys a class gets. They are drawn once, whatever `draw`
says, and -F trains on these cached features; weight weighs their loss in -F and nothing else;
ratio has no meaning here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.configs.finetuners import (
    CLIPAdapterConfig,
    LinearAdapterConfig,
    TipAdapterFConfig,
    TipSettings,
)
from ship.methods import Choice, Draw, Features, Finetuner, Labels, Logits, Rng, Weights
from ship.tasks import FixedRows, SeedTask

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


# Tried on the selection split beside the configured pair; 0: the cache ignored.
ALPHAS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
BETAS = (1.0, 2.0, 5.5, 10.0)


class Cache(nn.Module):
    """keys: features, (n, feature). labels: the class of each, (n,); -1: of none."""

    labels: Tensor

    def __init__(self, rows: FixedRows, n_cls: int, *, trained: bool) -> None:
        super().__init__()
        keys = F.normalize(rows.features.mean(1), dim=-1)
        self.keys = nn.Parameter(keys, requires_grad=trained)
        self.register_buffer("labels", rows.labels)
        self._n_cls = n_cls

    def forward(
        self, pictures: Float[Tensor, "m feature"], alpha: float, beta: float
    ) -> Float[Tensor, "m n_cls"]:
        """alpha * exp(-beta (1 - x K^T)) V (arXiv:2207.09519, eq. 4).

        Args:
            pictures: features to classify, unit norm.
            alpha: factor on the result.
            beta: how fast a key counts less the further off it is.
        """
        # one-hot rows, 0 for a label of -1; comparing with all classes takes three times as long
        labels = self.labels.unsqueeze(1)
        place = labels.clamp(0, self._n_cls - 1)
        zeros = self.keys.new_zeros(len(self.keys), self._n_cls)
        values = zeros.scatter(1, place, (place == labels).to(zeros.dtype))
        return alpha * (beta * (pictures @ self.keys.T - 1)).exp() @ values


class TipAdapter(Finetuner):
    """The training-free cache; synthetic.weight has no say in it."""

    feed = "fixed"
    rows = "cache"
    trained = False

    def __init__(self, config: TipSettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        # the configured pair first, so that it wins a tie; then the grid
        pairs = [(config.alpha, config.beta)]
        if config.search:
            pairs += [(a, b) for a in ALPHAS for b in BETAS if a > 0] + [(0.0, config.beta)]
        self.choices = tuple({"alpha": a, "beta": b} for a, b in dict.fromkeys(pairs))
        self.cache = Cache(task.fixed_rows, len(task.class_names), trained=self.trained)

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """Zero-shot logits plus the cache's."""
        cached: Tensor = self.cache(pictures, **choice)
        return self.zero_shot(pictures) + cached


class TipAdapterF(TipAdapter):
    """The cache with trained keys: cross-entropy at the configured alpha and beta.

    mean_weight: of the rows.
    """

    stream = "tip"
    trained = True
    mean_weight: Tensor

    def __init__(
        self, config: TipAdapterFConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self.register_buffer("mean_weight", task.fixed_rows.weights.mean(), persistent=False)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """AdamW, with the authors' epsilon."""
        return torch.optim.AdamW, {"lr": self.config.lr, "eps": 1e-4}

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """With weights: mean of weight * loss over the rows, divided by the set's mean weight.

        So a row counts the same whichever batch it falls into.
        """
        loss = super().loss(features, labels, weights)
        return loss if weights is None else loss * weights.mean() / self.mean_weight
