"""Gaussian discriminant analysis on features, training-free (arXiv:2402.04087).

Classes are Gaussians with means mu_c and a shared covariance, priors uniform; logits = zero-shot +
alpha * (w_c^T x + b_c) with w_c = P mu_c and b_c = -mu_c^T P mu_c / 2 (eq. 3), P the precision.

- Classes with features, real or synthetic: their means and one precision, eq. 4 (`precision: ks`)
  or the pseudoinverse of the mean over classes of their covariances (`pinv`). The authors' code has
  the first for few-shot, the second for base-to-new (github.com/mrflogs/ICLR24, main_few_shots.py
  and main_base2new.py). Where there are fewer views than features have dimensions, the second fits
  noise.
- Classes without features: with `new_classes: neighbours` the authors' Gaussians from the base
  features nearest to their text features, with a precision of their own
  (ship.generators.gaussians); with `zero_shot` their zero-shot logit alone.

Every view of a picture counts. w and b are centred over the classes that share a precision. Among
these it changes nothing; the authors compare no seen class with a new one, and here the zero-shot
logits set the two apart. A single class without features (protocol single_unseen) is centred on
itself: it has its zero-shot logit alone, whatever `new_classes` says.

alpha is chosen on the selection split (the authors choose it by accuracy on base classes, which is
`selection: base_val`). Of `synthetic`, per_class and weight matter: synthetic features are a set
drawn once (whatever `draw` says) and count `weight` pictures each; ratio has no meaning here.

The discriminant is worked out on the CPU and in double precision: it is done once, an
ill-conditioned covariance costs digits, and so it is the same on every device.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.finetuners import GDAConfig
from ship.generators.gaussians import neighbour_means, neighbour_precision, seen_views
from ship.methods import Choice, Draw, Features, Finetuner, Logits, SeedTask

# The authors' grid, and 0: the discriminant ignored.
ALPHAS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


class GDA(Finetuner):
    """A discriminant beside the zero-shot classifier.

    weight, bias: centred w and b, (n_cls, feature) and (n_cls,); 0 of a class without Gaussian.
    """

    feed = "fixed"
    weight: Tensor
    bias: Tensor

    def __init__(self, config: GDAConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw) -> None:
        super().__init__(config, task, clip, draw)
        # the configured alpha first, so that it wins a tie; then the grid
        alphas = (config.alpha, *ALPHAS) if config.search else (config.alpha,)
        self.choices = tuple({"alpha": alpha} for alpha in dict.fromkeys(alphas))
        rows = _rows(task)
        means, present = rows.means(), rows.mass > 0
        weight, bias = torch.zeros_like(means), torch.zeros_like(rows.mass)
        precision = shared_precision(rows, config.precision, config.shrinkage)
        weight[present], bias[present] = discriminant(means[present], precision)
        if config.new_classes == "neighbours" and bool((~present).any()):
            views, text = seen_views(task), task.text_features[~present].cpu().double()
            precision, near = neighbour_precision(views, text), neighbour_means(views, text)
            weight[~present], bias[~present] = discriminant(near, precision)
        self.register_buffer("weight", weight.to(task.features))
        self.register_buffer("bias", bias.to(task.features))

    def logits(self, pictures: Features, choice: Choice) -> Logits:
        """Zero-shot logits plus alpha times the discriminant."""
        terms = pictures @ self.weight.T + self.bias
        return self.zero_shot(pictures) + choice["alpha"] * terms


@dataclass(frozen=True)
class Rows:
    """Features of one seed, every view a row of its own.

    features: (n, feature). labels: (n,).
    weights: how many rows each counts as, (n,).
    n_cls: classes that there are.
    """

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]
    n_cls: int

    @property
    def mass(self) -> Float[Tensor, " n_cls"]:
        """Weight of each class's rows; 0: it has none."""
        return self.weights.new_zeros(self.n_cls).index_add(0, self.labels, self.weights)

    def means(self) -> Float[Tensor, "n_cls feature"]:
        """Each class's mean; 0 of a class without rows."""
        zeros = self.features.new_zeros(self.n_cls, self.features.shape[1])
        weighted = self.weights.unsqueeze(1) * self.features
        least = torch.finfo(self.weights.dtype).tiny
        return zeros.index_add(0, self.labels, weighted) / self.mass.clamp_min(least).unsqueeze(1)


def _rows(task: SeedTask) -> Rows:
    """What it is fitted to, every view a row; a synthetic feature's views are all alike."""
    rows = task.fixed_rows
    views = rows.features.shape[1]
    return Rows(
        rows.features.flatten(0, 1).cpu().double(),
        rows.labels.cpu().repeat_interleave(views),
        rows.weights.cpu().double().repeat_interleave(views),
        len(task.class_names),
    )


def discriminant(
    means: Float[Tensor, "m feature"], precision: Float[Tensor, "feature feature"]
) -> tuple[Float[Tensor, "m feature"], Float[Tensor, " m"]]:
    """w_c = P mu_c, b_c = -mu_c^T P mu_c / 2 (arXiv:2402.04087, eq. 3), centred over the classes.

    Centring changes all of a picture's m scores by one number.
    """
    w = means @ precision
    b = -(w * means).sum(1) / 2
    return w - w.mean(0), b - b.mean()


def shared_precision(
    rows: Rows, estimate: Literal["pinv", "ks"], shrinkage: float | None
) -> Float[Tensor, "feature feature"]:
    """The inverse of the covariance that all classes of some rows share.

    Where nothing scatters it is feature * I: the nearest mean decides.

    Args:
        rows: one at least.
        estimate: "ks": feature * ((n - 1) S + tr(S) I)^-1 with S = scatter / (n - 1), n the weight
            of all rows (arXiv:2402.04087, eq. 4; of less than two, n - 1 is taken as 1). "pinv":
            the pseudoinverse of the mean over classes of each one's unbiased covariance; a class
            of one row has none.
        shrinkage: s of the inverse of (1 - s) S + s tr(S) / feature * I with S = scatter / n
            (scikit-learn's), in place of an estimate; None: the estimate.
    """
    size, n, mass = rows.features.shape[1], float(rows.weights.sum()), rows.mass
    identity = torch.eye(size, dtype=rows.features.dtype)
    residuals = rows.features - rows.means()[rows.labels]
    share = rows.weights
    if shrinkage is None and estimate == "pinv":
        several = mass > 1 + 1e-9
        degrees = torch.where(several, mass - 1, torch.inf) * several.sum().clamp_min(1)
        share = rows.weights / degrees[rows.labels]
    scatter = residuals.T @ (share.unsqueeze(1) * residuals)
    trace = scatter.trace()
    if float(trace) <= 1e-12 * float(share.sum().clamp_min(1e-300)):
        return size * identity
    if shrinkage is not None:
        mixed = ((1 - shrinkage) * scatter + shrinkage * trace / size * identity) / n
    elif estimate == "ks":
        mixed = (scatter + trace / max(n - 1, 1.0) * identity) / size
    else:
        inverse: Tensor = torch.linalg.pinv(scatter, hermitian=True)
        return inverse
    return torch.cholesky_inverse(torch.linalg.cholesky(mixed))
