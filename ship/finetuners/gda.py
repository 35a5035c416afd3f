"""Gaussian discriminant analysis on features, training-free (arXiv:2402.04087).

Classes are Gaussians with means mu_c and one shared covariance Sigma, priors uniform; logits =
zero-shot + alpha * (w_c^T x + b_c) with w_c = Sigma^-1 mu_c and b_c = -mu_c^T Sigma^-1 mu_c / 2
(eq. 3). alpha is chosen on the selection split. w and b are centred over the classes, which
changes each picture's logits by a constant: a class without any feature then has w = 0 and b = 0,
the mean of the other classes' terms, and its zero-shot logit alone speaks for it.

A picture counts once, its views sharing the weight (the authors let every augmented view count).
Of `synthetic`, per_class and weight matter: synthetic features are a set drawn once (whatever
`draw` says) and count `weight` pictures each, in means and covariance; ratio has no meaning here.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import GDAConfig
from ship.finetuners.training_set import fixed_set
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part

# Tried on the selection split beside the configured weight; 0: the discriminant ignored.
ALPHAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class GDA:
    """R discriminants beside the zero-shot classifier.

    weight, bias: centred w and b, (replica, n_cls, feature) and (replica, n_cls).
    """

    epochs = 0

    def __init__(
        self,
        config: GDAConfig,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> None:
        self._task = task
        self.choices: tuple[Mapping[str, float], ...] = _choices(config.alpha, config.search)
        rows = fixed_set(task, synthesizer)
        n_cls = len(task.class_names)
        fitted = [
            discriminant(features[:count], labels[:count], weights[:count], n_cls, config.shrinkage)
            for features, labels, weights, count in zip(
                rows.features, rows.labels, rows.weights, rows.counts, strict=True
            )
        ]
        self.weight = torch.stack([weight for weight, _ in fitted])
        self.bias = torch.stack([bias for _, bias in fitted])

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Nothing to train."""
        return {}

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Zero-shot logits plus alpha times the discriminant."""
        terms = pictures @ self.weight.transpose(1, 2) + self.bias.unsqueeze(1)
        return self._task.zero_shot_logits(pictures) + choice["alpha"] * terms

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is trained."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is trained."""

    def learned(self) -> Mapping[str, Part]:
        """The discriminant."""
        return {"weight": self.weight, "bias": self.bias}

    def parts(self) -> Mapping[str, Part]:
        """Nothing is trained."""
        return {}


def discriminant(
    features: Float[Tensor, "n view feature"],
    labels: Int[Tensor, " n"],
    weights: Float[Tensor, " n"],
    n_cls: int,
    shrinkage: float | None,
) -> tuple[Float[Tensor, "n_cls feature"], Float[Tensor, " n_cls"]]:
    """w and b of every class, centred over the classes that have features; 0 for the others.

    Worked out in double precision: an ill-conditioned covariance costs digits.

    Args:
        weights: how many pictures each row counts as; its views share that.
        shrinkage: see `covariance`.
    """
    views, size = features.shape[1:]
    x = features.double().flatten(0, 1)
    y = labels.repeat_interleave(views)
    share = (weights.double() / views).repeat_interleave(views)
    mass = share.new_zeros(n_cls).index_add(0, y, share)
    sums = x.new_zeros(n_cls, size).index_add(0, y, share.unsqueeze(1) * x)
    present = mass > 0
    means = sums / mass.clamp_min(torch.finfo(mass.dtype).tiny).unsqueeze(1)
    residuals = x - means[y]
    scatter = residuals.T @ (share.unsqueeze(1) * residuals)
    factor = torch.linalg.cholesky(covariance(scatter, float(mass.sum()), shrinkage))
    found = means[present]
    w = torch.cholesky_solve(found.T, factor).T
    b = -(w * found).sum(1) / 2
    weight, bias = torch.zeros_like(means), torch.zeros_like(mass)
    weight[present] = w - w.mean(0)
    bias[present] = b - b.mean()
    return weight.to(features.dtype), bias.to(features.dtype)


def covariance(
    scatter: Float[Tensor, "feature feature"], n: float, shrinkage: float | None
) -> Float[Tensor, "feature feature"]:
    """The shared covariance from the pooled scatter within classes.

    Where nothing scatters (one feature a class) it is I / feature: the nearest mean decides.

    Args:
        scatter: sum over pictures of (x - mu)(x - mu)^T.
        n: pictures.
        shrinkage: s of (1 - s) S + s tr(S) / feature * I with S = scatter / n (scikit-learn's);
            None: (scatter + tr(scatter) / (n - 1) * I) / feature, the inverse of the paper's
            precision feature * ((n - 1) S' + tr(S') I)^-1, S' = scatter / (n - 1) (eq. 4); of less
            than two pictures, n - 1 is taken as 1.
    """
    size = len(scatter)
    identity = torch.eye(size, dtype=scatter.dtype, device=scatter.device)
    trace = scatter.trace()
    if float(trace) <= 1e-12 * n:
        return identity / size
    if shrinkage is None:
        return (scatter + trace / max(n - 1, 1.0) * identity) / size
    return ((1 - shrinkage) * scatter + shrinkage * trace / size * identity) / n


def _choices(alpha: float, search: bool) -> tuple[Mapping[str, float], ...]:
    """The configured alpha first, so that it wins a tie; then the grid."""
    alphas = (alpha, *ALPHAS) if search else (alpha,)
    return tuple({"alpha": a} for a in dict.fromkeys(alphas))
