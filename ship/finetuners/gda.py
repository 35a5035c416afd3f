"""Gaussian discriminant analysis on features, training-free (arXiv:2402.04087).

Classes are Gaussians with means mu_c, a shared covariance and uniform priors. logits_c = zero-shot
logit of c + alpha * (w_c^T x + b_c) with w_c = P mu_c, b_c = -mu_c^T P mu_c / 2 (eq. 3) and the
shared precision P.

- Classes with features, real or synthetic, use their means and one precision: eq. 4 (`precision:
  ks`) or the pseudoinverse of the mean of their covariances (`pinv`). The authors' code uses `ks`
  for few-shot and `pinv` for base-to-new (github.com/mrflogs/ICLR24, main_few_shots.py and
  main_base2new.py). `pinv` fits noise if there are fewer views than feature dimensions.
- For classes without features, `new_classes: neighbors` fits the authors' Gaussians to the base
  features nearest to the classes' text features, with a separate precision
  (ship.generators.gaussians). With `new_classes: zero_shot` these classes only have their zero-shot
  logit.

Every view of an image is a row. w and b are centered over the classes that share a precision, which
does not change the ranking within such a group. The authors never compare seen with new classes;
here the groups are made comparable only by this centering. If there is a single class without
features (protocol single_unseen), centering makes its w and b 0, so it only has its zero-shot
logit, whatever `new_classes` is.

alpha is chosen on the selection split. The authors choose it by accuracy on base classes, which is
`selection: base_val`. `synthetic.per_class` and `synthetic.loss_weight` apply: synthetic features
are drawn once, whatever `synthetic.resample` is, and each counts as `loss_weight` images.
`synthetic.ratio` has no effect.

The discriminant is computed once, on the CPU and in double precision, because an ill-conditioned
covariance loses digits. The result therefore does not depend on the device.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.finetuners import GDAConfig
from ship.generators.gaussians import (
    compute_neighbor_means,
    compute_neighbor_precision,
    get_training_views,
)
from ship.methods import Choice, Draw, Features, Finetuner, Logits, SeedTask

# Values of alpha that selection tries in addition to the configured one: the authors' grid, and 0,
# which ignores the discriminant.
ALPHAS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


class GDA(Finetuner):
    """A discriminant whose scores are added to the zero-shot logits.

    Attributes:
        weight: Centered w, (n_cls, feature). 0 for classes without a Gaussian.
        bias: Centered b, (n_cls,). 0 for classes without a Gaussian.
    """

    training_data = "fixed"  # the constructor reads all features from task.fixed_rows
    weight: Tensor
    bias: Tensor

    def __init__(self, config: GDAConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        # The configured alpha comes first, so that it wins a tie.
        alphas = (config.alpha, *ALPHAS) if config.tune_on_validation else (config.alpha,)
        self.inference_grid = tuple({"alpha": alpha} for alpha in dict.fromkeys(alphas))
        rows = _get_training_rows(task)
        means, has_rows = rows.means(), rows.class_weights > 0
        weight, bias = torch.zeros_like(means), torch.zeros_like(rows.class_weights)
        precision = compute_shared_precision(rows, config.precision, config.shrinkage)
        weight[has_rows], bias[has_rows] = fit_discriminant(means[has_rows], precision)
        if config.new_classes == "neighbors" and bool((~has_rows).any()):
            views, text = get_training_views(task), task.text_features[~has_rows].cpu().double()
            precision = compute_neighbor_precision(views, text)
            neighbors = compute_neighbor_means(views, text)
            weight[~has_rows], bias[~has_rows] = fit_discriminant(neighbors, precision)
        self.register_buffer("weight", weight.to(task.features))
        self.register_buffer("bias", bias.to(task.features))

    def logits(self, images: Features, choice: Choice) -> Logits:
        """Return the zero-shot logits plus alpha times the discriminant."""
        terms = images @ self.weight.T + self.bias
        return self.zero_shot(images) + choice["alpha"] * terms


@dataclass(frozen=True)
class Rows:
    """Features of one seed, with one row per view.

    Attributes:
        features: Features, (n, feature).
        labels: Label of each row, (n,).
        weights: Weight of each row, (n,).
        n_cls: Number of classes.
    """

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]
    n_cls: int

    @property
    def class_weights(self) -> Float[Tensor, " n_cls"]:
        """Total weight of each class's rows. 0 for classes without rows."""
        return self.weights.new_zeros(self.n_cls).index_add(0, self.labels, self.weights)

    def means(self) -> Float[Tensor, "n_cls feature"]:
        """Return the mean of each class, 0 for classes without rows."""
        zeros = self.features.new_zeros(self.n_cls, self.features.shape[1])
        weighted = self.weights.unsqueeze(1) * self.features
        tiny = torch.finfo(self.weights.dtype).tiny
        return zeros.index_add(0, self.labels, weighted) / self.class_weights.clamp_min(
            tiny
        ).unsqueeze(1)


def _get_training_rows(task: SeedTask) -> Rows:
    """Return the rows to fit, one per view, on the CPU and in double precision.

    A synthetic feature is repeated once per view of an image, so that both count the same.
    """
    rows = task.fixed_rows
    views = rows.features.shape[1]
    return Rows(
        rows.features.flatten(0, 1).cpu().double(),
        rows.labels.cpu().repeat_interleave(views),
        rows.weights.cpu().double().repeat_interleave(views),
        len(task.class_names),
    )


def fit_discriminant(
    means: Float[Tensor, "m feature"], precision: Float[Tensor, "feature feature"]
) -> tuple[Float[Tensor, "m feature"], Float[Tensor, " m"]]:
    """Return w_c = P mu_c and b_c = -mu_c^T P mu_c / 2 (arXiv:2402.04087, eq. 3), centered.

    Centering over the classes shifts all m scores of an image by the same number.

    Args:
        means: Mean of each class.
        precision: Precision that the classes share.
    """
    w = means @ precision
    b = -(w * means).sum(1) / 2
    return w - w.mean(0), b - b.mean()


def compute_shared_precision(
    rows: Rows, estimate: Literal["pinv", "ks"], shrinkage: float | None
) -> Float[Tensor, "feature feature"]:
    """Return the inverse of the covariance that all classes share.

    Below, d is the size of a feature, n is the total weight of the rows, and the scatter is the
    weighted sum of outer products of (row - class mean). Without any scatter the precision is
    d * I, which classifies by the nearest mean.

    Args:
        rows: Rows of all classes, at least one.
        estimate: Estimate of the precision:

            - "ks" is d * ((n - 1) S + tr(S) I)^-1 with S = scatter / (n - 1), where n - 1 is raised
              to at least 1 (arXiv:2402.04087, eq. 4).
            - "pinv" is the pseudoinverse of the mean of the unbiased covariances of the classes
              with a total weight above 1.
        shrinkage: s in the inverse of (1 - s) S + s tr(S) / d * I with S = scatter / n
            (scikit-learn's definition). None uses `estimate` instead.
    """
    size, n = rows.features.shape[1], float(rows.weights.sum())
    identity = torch.eye(size, dtype=rows.features.dtype)
    residuals = rows.features - rows.means()[rows.labels]
    row_weights = rows.weights
    if shrinkage is None and estimate == "pinv":
        class_weights = rows.class_weights
        has_spread = class_weights > 1 + 1e-9
        degrees = torch.where(has_spread, class_weights - 1, torch.inf)
        row_weights = row_weights / (degrees * has_spread.sum().clamp_min(1))[rows.labels]
    scatter = residuals.T @ (row_weights.unsqueeze(1) * residuals)
    trace = scatter.trace()
    if float(trace) <= 1e-12 * float(row_weights.sum().clamp_min(1e-300)):
        return size * identity
    if shrinkage is not None:
        shrunk = ((1 - shrinkage) * scatter + shrinkage * trace / size * identity) / n
    elif estimate == "ks":
        shrunk = (scatter + trace / max(n - 1, 1.0) * identity) / size
    else:
        inverse: Tensor = torch.linalg.pinv(scatter, hermitian=True)
        return inverse
    return torch.cholesky_inverse(torch.linalg.cholesky(shrunk))
