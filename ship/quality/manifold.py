"""Whether two feature sets lie in the same places, by the balls of their nearest neighbours."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Neighbours that a ball reaches to: 5 as in Naeem et al. (sec. 4), fewer where a set is smaller.
NEIGHBOURS = 5

# A ball's radius is shortened by this fraction, which keeps round-off from deciding whether the
# neighbour on its very edge is inside. It is outside, as in both papers' code: identical sets then
# have density 1.
EDGE = 1e-9


def manifold_metrics(squared: Float[Tensor, "total total"], n: int) -> dict[str, float]:
    """Precision, recall, density and coverage of synthetic features; fractions, density unbounded.

    With B_k(a) the ball around a that reaches its k-th nearest neighbour within its own set, over
    n real features x and m synthetic ones s:

    precision: fraction of s inside at least one B_k(x) (arXiv:1904.06991, eq. 2).
    recall: fraction of x inside at least one B_k(s) (arXiv:1904.06991, eq. 2).
    density: (1 / (k m)) sum_s (how many B_k(x) hold s) (arXiv:2002.09797, eq. 4); about 1 for
        sets from one distribution.
    coverage: fraction of B_k(x) that hold at least one s (arXiv:2002.09797, eq. 5).

    k = min(NEIGHBOURS, n - 1, m - 1), so that sets of very few pictures have values too; compare
    them only at equal numbers of pictures.

    Args:
        squared: squared distances of real rows (the first n) and synthetic rows together.
        n: real rows, at least 2; at least 2 synthetic ones follow.
    """
    m = len(squared) - n
    k = min(NEIGHBOURS, n - 1, m - 1)
    between = squared[:n, n:]
    in_real: Bool[Tensor, "n m"] = between < _radii(squared[:n, :n], k).unsqueeze(1)
    in_synthetic: Bool[Tensor, "n m"] = between < _radii(squared[n:, n:], k).unsqueeze(0)
    return {
        "precision": _fraction(in_real.any(dim=0)),
        "recall": _fraction(in_synthetic.any(dim=1)),
        "density": float(in_real.sum()) / (k * m),
        "coverage": _fraction(in_real.any(dim=1)),
    }


def _radii(squared: Float[Tensor, "n n"], k: int) -> Float[Tensor, " n"]:
    """Squared distance to the k-th nearest other row."""
    others = squared.clone().fill_diagonal_(torch.inf)
    nearest: Tensor = others.kthvalue(k, dim=1).values
    return nearest * (1 - EDGE)


def _fraction(held: Bool[Tensor, " n"]) -> float:
    return float(held.to(torch.float64).mean())
