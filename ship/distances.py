"""Comparison of two sets of features: subsampling, distances and overlap."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Maximum number of features used from a set. The cost of k-NN and kernel metrics is quadratic in
# it; a set of this size takes about half a second per seed on one core.
MAX_FEATURES = 1000

# Squared distances of unit-norm features below this are round-off of single precision.
ROUND_OFF = 1e-12

# Resamples for mmd_error. Its relative error is then about 1 / sqrt(2 * 200) = 5%.
BOOTSTRAP_DRAWS = 200

# Number of neighbors within a ball: 5 as in Naeem et al. (sec. 4), fewer for smaller sets.
NEIGHBORS = 5

# A ball's squared radius is reduced by this fraction, so that round-off does not decide whether the
# neighbor on its edge is inside. That neighbor is outside, as in both papers' code: identical sets
# then have density 1.
EDGE = 1e-9


@dataclass(frozen=True)
class LabeledSet:
    """Features and their classes, numbered from 0. Every class has at least one feature."""

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]

    @property
    def counts(self) -> Int[Tensor, " n_cls"]:
        """Number of features of each class."""
        return self.labels.bincount()

    @property
    def means(self) -> Float[Tensor, "n_cls feature"]:
        """Mean feature of each class, not normalized."""
        counts = self.counts
        sums = self.features.new_zeros(len(counts), self.features.shape[1])
        return sums.index_add_(0, self.labels, self.features) / counts.unsqueeze(1)

    def rows(self, keep: Tensor) -> "LabeledSet":
        """Return a subset.

        Args:
            keep: Mask or indices of the rows, on any device (subsets are drawn on the CPU).
        """
        keep = keep.to(self.labels.device)
        return LabeledSet(self.features[keep], self.labels[keep])


def select_shared_classes(
    synthetic: LabeledSet,
    real: LabeledSet,
    text: Float[Tensor, "n_universe feature"],
    generator: torch.Generator,
) -> tuple[LabeledSet, LabeledSet, Float[Tensor, "n_cls feature"]]:
    """Restrict both sets and the text features to the classes that both sets have.

    Labels are renumbered from 0 in ascending order. Sets larger than MAX_FEATURES are subsampled
    evenly over their classes, on the CPU.

    Args:
        synthetic: Synthetic features.
        real: Features of real images.
        text: Text feature of each class.
        generator: Random generator on the CPU.

    Returns:
        The synthetic features, the real features and the text features of the shared classes.
    """
    counts = [part.labels.bincount(minlength=len(text)) for part in (synthetic, real)]
    is_shared = (counts[0] > 0) & (counts[1] > 0)
    new_label = is_shared.cumsum(0) - 1

    def restrict(sample: LabeledSet) -> LabeledSet:
        part = sample.rows(is_shared[sample.labels])
        relabeled = LabeledSet(part.features, new_label[part.labels])
        return relabeled.rows(draw_evenly(relabeled.labels, MAX_FEATURES, generator))

    return restrict(synthetic), restrict(real), text[is_shared]


def draw_evenly(
    labels: Int[Tensor, " n"], size: int, generator: torch.Generator
) -> Int[Tensor, " k"]:
    """Draw at most `size` rows, as evenly over the classes as their counts allow.

    Every class keeps at least one row if there are at most `size` classes.

    Args:
        labels: Class of each row.
        size: Maximum number of rows to keep.
        generator: Random generator on the CPU.

    Returns:
        Indices of the rows, ascending.
    """
    if len(labels) <= size:
        return torch.arange(len(labels))
    rank = rank_within_class(labels, generator)
    # the random fraction shuffles rows of the same rank, so that no class is preferred
    order = (rank + torch.rand(len(labels), generator=generator, dtype=torch.float64)).argsort()
    indices: Tensor = order[:size].sort().values
    return indices


def rank_within_class(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Return each row's position, from 0, in a random order of its class's rows, on the CPU."""
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - first[labels[order]]
    return rank


def balance_classes(
    synthetic: LabeledSet, real: LabeledSet, generator: torch.Generator
) -> tuple[LabeledSet, LabeledSet]:
    """Subsample both sets to equal numbers of features per class.

    This is for metrics that depend on the size of a set. Classes with fewer than two features in
    either set are dropped. Random draws are made on the CPU.
    """
    limit = torch.minimum(synthetic.counts, real.counts)
    limit = torch.where(limit < 2, 0, limit)

    def subsample(sample: LabeledSet) -> LabeledSet:
        return sample.rows(rank_within_class(sample.labels, generator) < limit[sample.labels].cpu())

    return subsample(synthetic), subsample(real)


def frechet(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> tuple[float, float]:
    """Compute the Fréchet distance of Gaussians fitted to two sets, and its standard error.

        |mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))        (arXiv:1706.08500, eq. 6)

    With centered sets A = (x - mu_x) / sqrt(n - 1) and B likewise, C_x = A^T A, and the trace of
    the root is the sum of the singular values of A B^T. This needs no square root of a matrix, and
    no covariance of full size if there are fewer features than dimensions. The distance is biased
    upwards for small sets: compare only values from sets of equal size.

    The error is the bootstrap's standard error to first order, in closed form (the infinitesimal
    jackknife, Efron 1982): sqrt(var(h_x) / n + var(h_y) / m) with the influence of a feature

        h_x(i) = 2 (x_i - mu_x)·(mu_x - mu_y) + |x_i - mu_x|^2 - (n - 1) sum_k U_ik^2 s_k,

    A B^T = U diag(s) V^T, and h_y likewise. Resampling would need a decomposition per draw and is
    biased: repeated features lower the rank of the covariances. The error is overestimated, up to
    about twofold, if there are fewer features than dimensions.

    Returns:
        The distance (>= 0) and its standard error.
    """
    mu_x, mu_y = x.mean(dim=0), y.mean(dim=0)
    a, b = (x - mu_x) / math.sqrt(len(x) - 1), (y - mu_y) / math.sqrt(len(y) - 1)
    basis_a, root_a = _factor_rows(a)
    basis_b, root_b = _factor_rows(b)
    u, s, vh = torch.linalg.svd(root_a @ root_b.T, full_matrices=False)
    shift = mu_x - mu_y
    value = float(shift.square().sum() + a.square().sum() + b.square().sum() - 2 * s.sum())

    def variance(centered: Tensor, shift: Tensor, basis: Tensor | None, vectors: Tensor) -> Tensor:
        n = len(centered)
        vectors = vectors if basis is None else basis @ vectors
        influence: Tensor = 2 * math.sqrt(n - 1) * centered @ shift
        influence = influence + (n - 1) * centered.square().sum(dim=1)
        variance_of_mean: Tensor = (influence - (n - 1) * vectors.square() @ s).var() / n
        return variance_of_mean

    total = variance(a, shift, basis_a, u) + variance(b, -shift, basis_b, vh.T)
    return max(value, 0.0), float(total.sqrt())


def _factor_rows(rows: Tensor) -> tuple[Tensor | None, Tensor]:
    """Factor rows = basis @ root with an orthonormal basis.

    Returns:
        The basis and the root, or None and the rows if there are no more rows than columns.
    """
    if len(rows) <= rows.shape[1]:
        return None, rows
    basis, root = torch.linalg.qr(rows)
    return basis, root


def squared_distances(x: Float[Tensor, "n feature"]) -> Float[Tensor, "n n"]:
    """Compute the squared Euclidean distances between all rows; the diagonal is exactly 0."""
    products = x @ x.T
    norms = products.diagonal()
    squared = (norms.unsqueeze(0) + norms.unsqueeze(1) - 2 * products).clamp(min=0)
    return squared.fill_diagonal_(0)


def mmd(
    squared: Float[Tensor, "total total"], n: int, generator: torch.Generator
) -> tuple[float, float]:
    """Compute the unbiased squared maximum mean discrepancy with an RBF kernel, and its error.

        mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    (Gretton et al. 2012, eq. 3.) k(a, b) = exp(-|a - b|^2 / (2 sigma^2)); sigma is the lower median
    of the distances between different rows of both sets together (their sec. 8), or of the non-zero
    distances if that is 0. For sets from the same distribution the value may be below 0 by chance.
    It is unbiased for independent features; if such sets are balanced over classes, it is slightly
    below 0 on average.

    The error is the standard deviation over BOOTSTRAP_DRAWS resamples of both sets, with a fixed
    kernel and without pairs of a feature and its copy.

    Args:
        squared: Squared distances of the rows of x (the first n) and y together.
        n: Number of rows of x.
        generator: Random generator of the resamples.

    Returns:
        The squared discrepancy and its standard error.
    """
    m = len(squared) - n
    upper = torch.triu_indices(len(squared), len(squared), offset=1)
    pairs = squared[upper[0], upper[1]]
    middle = pairs.median()
    if middle <= ROUND_OFF:
        distinct = pairs[pairs > ROUND_OFF]
        middle = distinct.median() if len(distinct) else torch.ones_like(middle)
    kernel = (squared / (-2 * middle)).exp().fill_diagonal_(0)
    value = _weighted_mmd(kernel, kernel.new_ones(1, n), kernel.new_ones(1, m))
    counts = [_draw_counts(size, generator).to(kernel.device) for size in (n, m)]
    return float(value), float(_weighted_mmd(kernel, *counts).std())


def _weighted_mmd(
    kernel: Tensor, x: Float[Tensor, "draw n"], y: Float[Tensor, "draw m"]
) -> Float[Tensor, " draw"]:
    """Return the squared MMD of each resample of two sets.

    Args:
        kernel: Kernel between all features, (n + m, n + m). Its diagonal must be 0.
        x: Number of times that each resample contains each of the first n features.
        y: Number of times that each resample contains each of the other m features.
    """
    n = x.shape[1]

    def within(block: Tensor, counts: Tensor) -> Tensor:
        pairs = counts.sum(dim=1).square() - counts.square().sum(dim=1)
        mean = ((counts @ block) * counts).sum(dim=1) / pairs.clamp(min=1)
        return torch.where(pairs > 0, mean, 1)  # a resample of one feature: k(a, a)

    cross_term = ((x @ kernel[:n, n:]) * y).sum(dim=1) / (x.sum(dim=1) * y.sum(dim=1))
    return within(kernel[:n, :n], x) + within(kernel[n:, n:], y) - 2 * cross_term


def _draw_counts(n: int, generator: torch.Generator) -> Float[Tensor, "draw n"]:
    """Draw resamples of size n; return how often each contains each of the n features."""
    indices: Int[Tensor, "draw n"] = torch.randint(n, (BOOTSTRAP_DRAWS, n), generator=generator)
    counts = torch.zeros(BOOTSTRAP_DRAWS, n, dtype=torch.float64)
    return counts.scatter_add_(1, indices, torch.ones_like(counts))


def manifold_metrics(squared: Float[Tensor, "total total"], n: int) -> dict[str, float]:
    """Compute precision, recall, density and coverage of synthetic features.

    x are the n real features and s the m synthetic ones. B_k(a) is the ball around a up to its k-th
    nearest neighbor within the same set:

    - precision: fraction of s inside at least one B_k(x) (arXiv:1904.06991, eq. 2).
    - recall: fraction of x inside at least one B_k(s) (arXiv:1904.06991, eq. 2).
    - density: (1 / (k m)) sum_s (number of B_k(x) that contain s) (arXiv:2002.09797, eq. 4);
      unbounded, about 1 for sets from the same distribution.
    - coverage: fraction of B_k(x) that contain at least one s (arXiv:2002.09797, eq. 5).

    k = min(NEIGHBORS, n - 1, m - 1), so that very small sets have values, too. Compare values only
    between sets of equal size.

    Args:
        squared: Squared distances of real rows (the first n) and synthetic rows together.
        n: Number of real rows, at least 2. At least 2 synthetic rows follow.
    """
    m = len(squared) - n
    k = min(NEIGHBORS, n - 1, m - 1)
    between = squared[:n, n:]
    in_real: Bool[Tensor, "n m"] = between < _compute_radii(squared[:n, :n], k).unsqueeze(1)
    in_synthetic: Bool[Tensor, "n m"] = between < _compute_radii(squared[n:, n:], k).unsqueeze(0)
    return {
        "precision": float(in_real.any(dim=0).double().mean()),
        "recall": float(in_synthetic.any(dim=1).double().mean()),
        "density": float(in_real.sum()) / (k * m),
        "coverage": float(in_real.any(dim=1).double().mean()),
    }


def _compute_radii(squared: Float[Tensor, "n n"], k: int) -> Float[Tensor, " n"]:
    """Return each row's squared distance to the k-th nearest other row."""
    distances = squared.clone().fill_diagonal_(torch.inf)
    nearest: Tensor = distances.kthvalue(k, dim=1).values
    return nearest * (1 - EDGE)
