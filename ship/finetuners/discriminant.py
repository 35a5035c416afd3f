"""The linear discriminant of Gaussian classes that share a covariance, from weighted features.

Worked out on the CPU and in double precision: it is done once, an ill-conditioned covariance costs
digits, and so it is the same on every device.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
