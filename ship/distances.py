"""Two sets of features: what is drawn of them, how far apart they are, and whether alike."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Most features of a set that are used. The k-NN and kernel metrics are quadratic in it, and a set
# of this size takes about half a second a replica on one core.
MAX_FEATURES = 1000

# Squared distance of unit-norm features that single precision alone may make: 0, as it were.
ROUND_OFF = 1e-12

# Resamples behind mmd_error: its own relative error is then about 1 / sqrt(2 * 200) = 5%.
BOOTSTRAP_DRAWS = 200

# Neighbours that a ball reaches to: 5 as in Naeem et al. (sec. 4), fewer where a set is smaller.
NEIGHBOURS = 5

# A ball's radius is shortened by this fraction, which keeps round-off from deciding whether the
# neighbour on its very edge is inside. It is outside, as in both papers' code: identical sets then
# have density 1.
EDGE = 1e-9


@dataclass(frozen=True)
class LabelledSet:
    """Features and the classes they are of, numbered from 0; every class has at least one."""

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]

    @property
    def counts(self) -> Int[Tensor, " n_cls"]:
        """Features of each class."""
        return self.labels.bincount()

    @property
    def means(self) -> Float[Tensor, "n_cls feature"]:
        """Mean feature of each class, not normalised."""
        counts = self.counts
        sums = self.features.new_zeros(len(counts), self.features.shape[1])
        return sums.index_add_(0, self.labels, self.features) / counts.unsqueeze(1)

    def rows(self, keep: Tensor) -> "LabelledSet":
        """A subset, by mask or by index, which may be on the CPU, where subsets are drawn."""
        keep = keep.to(self.labels.device)
        return LabelledSet(self.features[keep], self.labels[keep])


def compared(
    made: LabelledSet,
    real: LabelledSet,
    text: Float[Tensor, "n_universe feature"],
    generator: torch.Generator,
) -> tuple[LabelledSet, LabelledSet, Float[Tensor, "n_cls feature"]]:
    """What is left of both sets and the text features by the classes that both sets have.

    Labels are renumbered from 0 in ascending order. A set of more than MAX_FEATURES is cut by a
    draw on the CPU that is even over its classes.
    """
    counts = [own.labels.bincount(minlength=len(text)) for own in (made, real)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    number = shared.cumsum(0) - 1

    def restricted(own: LabelledSet) -> LabelledSet:
        own = own.rows(shared[own.labels])
        numbered = LabelledSet(own.features, number[own.labels])
        return numbered.rows(even_draw(numbered.labels, MAX_FEATURES, generator))

    return restricted(made), restricted(real), text[shared]


def even_draw(
    labels: Int[Tensor, " n"], size: int, generator: torch.Generator
) -> Int[Tensor, " k"]:
    """Rows of a random subset of at most `size`, as even over the classes as their counts allow.

    Every class keeps at least one row where there are no more than `size` classes.

    Args:
        labels: of each row.
        size: most rows that are kept.
        generator: draws on the CPU.
    """
    if len(labels) <= size:
        return torch.arange(len(labels))
    rank = rank_within_class(labels, generator)
    # the fraction shuffles rows of one rank, so that no class comes first
    order = (rank + torch.rand(len(labels), generator=generator, dtype=torch.float64)).argsort()
    kept: Tensor = order[:size].sort().values
    return kept


def rank_within_class(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Each row's place, from 0, in a random order of the rows of its class; on the CPU."""
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - first[labels[order]]
    return rank


def matched(
    made: LabelledSet, real: LabelledSet, generator: torch.Generator
) -> tuple[LabelledSet, LabelledSet]:
    """Both sets with as many features of each class in both; of classes with two or more.

    For measures that grow with the number of pictures. The set that has more of a class is cut by
    a random draw on the CPU.
    """
    limit = torch.minimum(made.counts, real.counts)
    limit = torch.where(limit < 2, 0, limit)

    def cut(own: LabelledSet) -> LabelledSet:
        return own.rows(rank_within_class(own.labels, generator) < limit[own.labels].cpu())

    return cut(made), cut(real)


def frechet(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> tuple[float, float]:
    """Fréchet distance between Gaussians fitted to two sets (arXiv:1706.08500, eq. 6), and error.

        |mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))

    With centred sets A = (x - mu_x) / sqrt(n - 1) and B likewise, C_x = A^T A, and the trace of the
    root is the sum of the singular values of A B^T: no square root of a matrix, and no covariance
    of full size where there are fewer pictures than dimensions. Biased upwards in small sets, so
    that only values from equal numbers of pictures compare.

    The error is the bootstrap's standard error to first order, in closed form (the infinitesimal
    jackknife, Efron 1982): sqrt(var(h_x) / n + var(h_y) / m) with the influence of a picture

        h_x(i) = 2 (x_i - mu_x)·(mu_x - mu_y) + |x_i - mu_x|^2 - (n - 1) sum_k U_ik^2 s_k,

    A B^T = U diag(s) V^T, and h_y likewise. Resampling itself would cost a decomposition a draw and
    errs: repeated pictures lower the rank of the covariances. It is on the large side, up to about
    twofold, where there are fewer pictures than dimensions.

    Returns:
        The distance (>= 0) and its standard error.
    """
    mu_x, mu_y = x.mean(dim=0), y.mean(dim=0)
    a, b = (x - mu_x) / math.sqrt(len(x) - 1), (y - mu_y) / math.sqrt(len(y) - 1)
    basis_a, root_a = _reduced(a)
    basis_b, root_b = _reduced(b)
    u, s, vh = torch.linalg.svd(root_a @ root_b.T, full_matrices=False)
    shift = mu_x - mu_y
    value = float(shift.square().sum() + a.square().sum() + b.square().sum() - 2 * s.sum())

    def variance(centred: Tensor, shift: Tensor, basis: Tensor | None, vectors: Tensor) -> Tensor:
        n = len(centred)
        vectors = vectors if basis is None else basis @ vectors
        influence: Tensor = 2 * math.sqrt(n - 1) * centred @ shift
        influence = influence + (n - 1) * centred.square().sum(dim=1)
        spread: Tensor = (influence - (n - 1) * vectors.square() @ s).var() / n
        return spread

    total = variance(a, shift, basis_a, u) + variance(b, -shift, basis_b, vh.T)
    return max(value, 0.0), float(total.sqrt())


def _reduced(rows: Tensor) -> tuple[Tensor | None, Tensor]:
    """rows = basis @ root with orthonormal columns; (None, rows) where rows are already few."""
    if len(rows) <= rows.shape[1]:
        return None, rows
    basis, root = torch.linalg.qr(rows)
    return basis, root


def squared_distances(x: Float[Tensor, "n feature"]) -> Float[Tensor, "n n"]:
    """Squared Euclidean distance between every two rows; exactly 0 on the diagonal."""
    products = x @ x.T
    norms = products.diagonal()
    squared = (norms.unsqueeze(0) + norms.unsqueeze(1) - 2 * products).clamp(min=0)
    return squared.fill_diagonal_(0)


def mmd(
    squared: Float[Tensor, "total total"], n: int, generator: torch.Generator
) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy, RBF kernel (Gretton et al. 2012, eq. 3).

        mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    k(a, b) = exp(-|a - b|^2 / (2 sigma^2)), sigma the median distance between different rows of
    both sets together (their sec. 8); the lower median, where that is 0 of the distances above 0.
    Below 0 by chance where the sets are alike; unbiased for independent pictures, and so slightly
    below 0 on average where like sets are balanced over classes.

    The error is the standard deviation over BOOTSTRAP_DRAWS resamples of both sets' pictures, the
    kernel held fixed and a picture never paired with its own copy.

    Args:
        squared: squared distances of the rows of x (the first n) and y together.
        n: rows of x.
        generator: draws the resamples.

    Returns:
        The squared discrepancy and its standard error.
    """
    m = len(squared) - n
    upper = torch.triu_indices(len(squared), len(squared), offset=1)
    pairs = squared[upper[0], upper[1]]
    middle = pairs.median()
    if middle <= ROUND_OFF:
        apart = pairs[pairs > ROUND_OFF]
        middle = apart.median() if len(apart) else torch.ones_like(middle)
    kernel = (squared / (-2 * middle)).exp().fill_diagonal_(0)
    value = _weighted_mmd(kernel, kernel.new_ones(1, n), kernel.new_ones(1, m))
    drawn = [_counts(size, generator).to(kernel.device) for size in (n, m)]
    return float(value), float(_weighted_mmd(kernel, *drawn).std())


def _weighted_mmd(
    kernel: Tensor, x: Float[Tensor, "draw n"], y: Float[Tensor, "draw m"]
) -> Float[Tensor, " draw"]:
    """Squared MMD of resamples that hold picture i x[:, i] times; the kernel has no diagonal."""
    n = x.shape[1]

    def within(block: Tensor, counts: Tensor) -> Tensor:
        pairs = counts.sum(dim=1).square() - counts.square().sum(dim=1)
        mean = ((counts @ block) * counts).sum(dim=1) / pairs.clamp(min=1)
        return torch.where(pairs > 0, mean, 1)  # one picture n times: k(a, a)

    across = ((x @ kernel[:n, n:]) * y).sum(dim=1) / (x.sum(dim=1) * y.sum(dim=1))
    return within(kernel[:n, :n], x) + within(kernel[n:, n:], y) - 2 * across


def _counts(n: int, generator: torch.Generator) -> Float[Tensor, "draw n"]:
    """How often each of n pictures is in each resample of n."""
    picks: Int[Tensor, "draw n"] = torch.randint(n, (BOOTSTRAP_DRAWS, n), generator=generator)
    counts = torch.zeros(BOOTSTRAP_DRAWS, n, dtype=torch.float64)
    return counts.scatter_add_(1, picks, torch.ones_like(counts))


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
        "precision": float(in_real.any(dim=0).double().mean()),
        "recall": float(in_synthetic.any(dim=1).double().mean()),
        "density": float(in_real.sum()) / (k * m),
        "coverage": float(in_real.any(dim=1).double().mean()),
    }


def _radii(squared: Float[Tensor, "n n"], k: int) -> Float[Tensor, " n"]:
    """Squared distance to the k-th nearest other row."""
    others = squared.clone().fill_diagonal_(torch.inf)
    nearest: Tensor = others.kthvalue(k, dim=1).values
    return nearest * (1 - EDGE)
