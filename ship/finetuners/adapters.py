"""Adapters of the zero-shot classifier: CLIP-Adapter, the linear adapter (RLA) and Tip-Adapter.

CLIP-Adapter (arXiv:2110.04544) mixes the output of a bottleneck MLP into the image feature: x' =
normalize(ratio * A(x) + (1 - ratio) * x) with A(x) = ReLU(W_2 ReLU(W_1 x)) (sec. 3.2; the second
ReLU and the missing biases follow the authors' code). The logits are logit_scale * x' T^T with the
zero-shot text features T. As A(c x) = c A(x) for c > 0, unit-norm features give the same result as
the authors' unnormalized ones.

The regularized linear adapter (RLA) is a square matrix W that is kept near the identity: x' =
normalize(W x), loss = cross-entropy + penalty_weight / shots * |W - I|^2 (squared Frobenius norm).
Source: Fahes et al. (ProLIP, arXiv:2410.05270), who compare their method with it, and their code
(github.com/astra-vision/ProLIP, methods/RegLinearAdapter.py): Adam with epsilon 1e-4, 300
full-batch steps with new crops in every step, cosine learning rate to 0. The weight of the penalty
decreases with the shots, so it need not be tuned on validation images. Here a batch may be smaller
than the training set (`batch_size`).

These two use `synthetic.ratio`, `.resample` and `.loss_weight`, like all fine-tuners that train in
steps.

Tip-Adapter (arXiv:2207.09519) is a key-value cache of features: logits = logit_scale * x T^T +
alpha * exp(-beta (1 - x K^T)) V. Keys K are few-shot features (mean over views), values V their
one-hot labels. Synthetic features are added to the cache as further keys. Tip-Adapter-F trains the
keys on all of these features.

Tip-Adapter-F trains with the configured alpha and beta. For inference, both variants choose alpha
and beta on the selection split (`tune_on_validation`). The official code
(github.com/gaopengcuhk/Tip-Adapter) differs:

- It trains with init_beta = 1 and an init_alpha that depends on the dataset
  (search_spaces/authors.yaml has the values).
- It chooses alpha and beta on validation features, but on ImageNet on test features.
- It picks Tip-Adapter-F's epoch on the test set, and reports the higher of two test accuracies:
  with the initial and with the chosen alpha and beta.

Both variants use `synthetic.per_class`, the number of synthetic keys per class, which are drawn
once, whatever `synthetic.resample` is. `synthetic.loss_weight` is their loss weight in
Tip-Adapter-F, and does not affect Tip-Adapter. `synthetic.ratio` has no effect.
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

# Ratios that selection tries in addition to the configured one. 0 ignores the adapter.
RATIOS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class CLIPAdapter(Finetuner):
    """A bottleneck MLP whose output is mixed with the image feature.

    Attributes:
        down: First layer of the bottleneck, (feature, hidden).
        up: Second layer of the bottleneck, (hidden, feature).
    """

    stream = "clip_adapter"

    def __init__(
        self, config: CLIPAdapterConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        # The configured ratio comes first: it is used in training, and wins a tie.
        ratios = (config.ratio, *RATIOS) if config.tune_on_validation else (config.ratio,)
        self.inference_grid = tuple({"ratio": ratio} for ratio in dict.fromkeys(ratios))
        size, start = clip.feature_dim, draw("clip_adapter/weights")
        hidden = max(1, size // config.reduction)
        self.down = nn.Parameter(_draw_initial_weights(size, hidden, start))
        self.up = nn.Parameter(_draw_initial_weights(hidden, size, start))

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * cosine of adapted features to the zero-shot text features."""
        ratio = choice["ratio"]
        outputs = F.relu(F.relu(images @ self.down) @ self.up)
        return self.zero_shot(F.normalize(ratio * outputs + (1 - ratio) * images, dim=-1))


def _draw_initial_weights(n_in: int, n_out: int, rng: Rng) -> Float[Tensor, "n_in n_out"]:
    """Draw normal weights with the variance of torch's linear layers, 1 / (3 n_in)."""
    std: float = (3 * n_in) ** -0.5
    return std * rng.normal(n_in, n_out)


class LinearAdapter(Finetuner):
    """A linear map of the image features, regularized towards the identity.

    Attributes:
        map: W, multiplied from the right, (feature, feature).
    """

    stream = "linear_adapter"

    def __init__(
        self, config: LinearAdapterConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self._penalty = config.penalty_weight / task.shots
        self._identity = torch.eye(clip.feature_dim).to(self.text)
        self.map = nn.Parameter(self._identity.clone())

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return Adam with the authors' epsilon."""
        return torch.optim.Adam, {"lr": self.config.lr, "eps": 1e-4}

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the weighted mean cross-entropy + penalty_weight / shots * |W - I|^2."""
        distance = (self.map - self._identity).square().sum()
        return super().loss(features, labels, weights) + self._penalty * distance

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return logit_scale * cosine of mapped features to the zero-shot text features."""
        return self.zero_shot(F.normalize(images @ self.map, dim=-1))


# Values that selection tries in addition to the configured pair. Alpha 0 ignores the cache, so it
# is tried with one beta only.
ALPHAS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
BETAS = (1.0, 2.0, 5.5, 10.0)


class Cache(nn.Module):
    """A key-value cache of features and their labels.

    Attributes:
        keys: Features, (n, feature).
        labels: Class of each key, (n,). Padding has the label -1.
    """

    labels: Tensor

    def __init__(self, rows: FixedRows, n_cls: int, *, trained: bool) -> None:
        super().__init__()
        keys = F.normalize(rows.features.mean(1), dim=-1)
        self.keys = nn.Parameter(keys, requires_grad=trained)
        self.register_buffer("labels", rows.labels)
        self._n_cls = n_cls

    def forward(
        self, images: Float[Tensor, "m feature"], alpha: float, beta: float
    ) -> Float[Tensor, "m n_cls"]:
        """Return alpha * exp(-beta (1 - x K^T)) V (arXiv:2207.09519, eq. 4).

        Args:
            images: Features to classify, unit norm.
            alpha: Factor on the result.
            beta: Sharpness. A larger beta reduces the influence of distant keys.
        """
        # One-hot rows, zeros for the label -1. `labels == arange(n_cls)` is three times as slow.
        labels = self.labels.unsqueeze(1)
        columns = labels.clamp(0, self._n_cls - 1)
        zeros = self.keys.new_zeros(len(self.keys), self._n_cls)
        values = zeros.scatter(1, columns, (columns == labels).to(zeros.dtype))
        return alpha * (beta * (images @ self.keys.T - 1)).exp() @ values


class TipAdapter(Finetuner):
    """The training-free cache, which ignores `synthetic.loss_weight`.

    Attributes:
        trains_keys: Whether the keys are trained.
        cache: Keys and labels of the training rows.
    """

    training_data = "fixed"
    rows = "cache"
    trains_keys = False

    def __init__(self, config: TipSettings, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        # The configured pair comes first: it is used in training, and wins a tie.
        pairs = [(config.alpha, config.beta)]
        if config.tune_on_validation:
            pairs += [(a, b) for a in ALPHAS for b in BETAS if a > 0] + [(0.0, config.beta)]
        self.inference_grid = tuple({"alpha": a, "beta": b} for a, b in dict.fromkeys(pairs))
        self.cache = Cache(task.fixed_rows, len(task.class_names), trained=self.trains_keys)

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return the zero-shot logits plus those of the cache."""
        cached: Tensor = self.cache(images, **choice)
        return self.zero_shot(images) + cached


class TipAdapterF(TipAdapter):
    """The cache with trained keys: cross-entropy at the configured alpha and beta.

    Attributes:
        mean_weight: Mean loss weight of the training rows.
    """

    stream = "tip"
    trains_keys = True
    mean_weight: Tensor

    def __init__(
        self, config: TipAdapterFConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        self.register_buffer("mean_weight", task.fixed_rows.weights.mean(), persistent=False)

    def optimizer(self) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
        """Return AdamW with the authors' epsilon."""
        return torch.optim.AdamW, {"lr": self.config.lr, "eps": 1e-4}

    def loss(self, features: Features, labels: Labels, weights: Weights) -> Float[Tensor, ""]:
        """Return the mean of weight * loss over the batch, divided by `mean_weight`.

        A row therefore counts the same in every batch, whatever the weights of the other rows are.
        Without weights, this is the mean loss.
        """
        loss = super().loss(features, labels, weights)
        return loss if weights is None else loss * weights.mean() / self.mean_weight
