"""Comparison of two sets of features: subsampling, distances and overlap."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Larger sets are subsampled to this many features, because the cost of k-NN and kernel metrics is
# quadratic. Sets of this size take about half a second per seed on one core.
MAX_FEATURES = 1000

# Squared distances below this count as 0: they are round-off of unit-norm features in single
# precision.
ROUND_OFF = 1e-12

# Number of resamples from which mmd estimates its standard error. The estimate has a relative error
# of 1 / sqrt(2 * 200) = 5%.
BOOTSTRAP_DRAWS = 200

# The balls of manifold_metrics have the distance to the 5th nearest neighbor as radius, as in
# arXiv:2002.09797 (sec. 4). Sets of five or fewer features use a nearer neighbor.
NEIGHBORS = 5

# The neighbor at the distance of the radius counts as outside the ball, as in the code of
# arXiv:1904.06991 and arXiv:2002.09797. Identical sets then have density 1. Squared radii are
# reduced by this fraction, so that round-off does not move the neighbor into the ball.
RADIUS_MARGIN = 1e-9


@dataclass(frozen=True)
class LabeledSet:
    """Features and their classes, numbered from 0."""

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]

    @property
    def counts(self) -> Int[Tensor, " n_cls"]:
        """Number of features of each class."""
        return self.labels.bincount()

    @property
    def means(self) -> Float[Tensor, "n_cls feature"]:
        """Mean feature of each class, not normalized; NaN for a class without features."""
        counts = self.counts
        sums = self.features.new_zeros(len(counts), self.features.shape[1])
        return sums.index_add_(0, self.labels, self.features) / counts.unsqueeze(1)

    def select_rows(self, rows: Tensor) -> "LabeledSet":
        """Return a subset.

        Args:
            rows: Mask or indices of the rows to keep, on any device.
        """
        rows = rows.to(self.labels.device)
        return LabeledSet(self.features[rows], self.labels[rows])


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
    has_synthetic = synthetic.labels.bincount(minlength=len(text)) > 0
    has_real = real.labels.bincount(minlength=len(text)) > 0
    is_shared = has_synthetic & has_real
    new_label = is_shared.cumsum(0) - 1

    def restrict(sample: LabeledSet) -> LabeledSet:
        shared = sample.select_rows(is_shared[sample.labels])
        relabeled = LabeledSet(shared.features, new_label[shared.labels])
        return relabeled.select_rows(draw_evenly(relabeled.labels, MAX_FEATURES, generator))

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
    """Shuffle the rows within each class; return each row's position in its class, from 0.

    The result is on the CPU.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    class_start = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - class_start[labels[order]]
    return rank


def balance_classes(
    synthetic: LabeledSet, real: LabeledSet, generator: torch.Generator
) -> tuple[LabeledSet, LabeledSet]:
    """Subsample both sets to equal numbers of features per class.

    Metrics that depend on the size of a set need this. Classes with fewer than two features in
    either set lose all features; labels are not renumbered. Random draws are made on the CPU.
    """
    limit = torch.minimum(synthetic.counts, real.counts)
    limit = torch.where(limit < 2, 0, limit)

    def subsample(sample: LabeledSet) -> LabeledSet:
        rank = rank_within_class(sample.labels, generator)
        return sample.select_rows(rank < limit[sample.labels].cpu())

    return subsample(synthetic), subsample(real)


def frechet(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> tuple[float, float]:
    """Compute the Fréchet distance of Gaussians fitted to two sets, and its standard error.

        |mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))        (arXiv:1706.08500, eq. 6)

    With A = (x - mu_x) / sqrt(n - 1) and B likewise, C_x = A^T A, and the trace of (C_x C_y)^(1/2)
    is the sum of the singular values of A B^T. No matrix square root is computed. Sets with fewer
    features than dimensions need no covariance matrix either. The distance is biased upwards for
    small sets: compare only values from sets of equal size.

    The standard error is computed by the infinitesimal jackknife (Efron 1982), a first-order
    approximation of the bootstrap: sqrt(var(h_x) / n + var(h_y) / m). The influence h_x(i) of
    feature i is

        h_x(i) = 2 (x_i - mu_x)·(mu_x - mu_y) + |x_i - mu_x|^2 - (n - 1) sum_k U_ik^2 s_k

    with A B^T = U diag(s) V^T; h_y is defined likewise. For sets with fewer features than
    dimensions, this standard error can be too large by a factor of about two. A bootstrap would
    need one decomposition per resample, and would be biased: repeated features lower the rank of
    the covariances.

    Args:
        x: First set, at least 2 features.
        y: Second set, at least 2 features.

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
        The basis and the root. None and the rows themselves if there are at most as many rows as
        columns.
    """
    if len(rows) <= rows.shape[1]:
        return None, rows
    basis, root = torch.linalg.qr(rows)
    return basis, root


def compute_squared_distances(x: Float[Tensor, "n feature"]) -> Float[Tensor, "n n"]:
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
    of the distances between different rows of both sets together (their sec. 8). If this median is
    0, sigma is the median of the non-zero distances.

    The value may be negative if both sets come from the same distribution. It is unbiased for
    independent features, and slightly too low on average for sets that are balanced over classes.

    The error is the standard deviation over BOOTSTRAP_DRAWS resamples of both sets. All resamples
    use the sigma of the full sets, and pairs of copies of the same feature are excluded.

    Args:
        squared: Squared distances between all rows of x (the first n) and y.
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
    value = _compute_weighted_mmd(kernel, kernel.new_ones(1, n), kernel.new_ones(1, m))
    counts = [_draw_counts(size, generator).to(kernel.device) for size in (n, m)]
    return float(value), float(_compute_weighted_mmd(kernel, *counts).std())


def _compute_weighted_mmd(
    kernel: Tensor, x: Float[Tensor, "draw n"], y: Float[Tensor, "draw m"]
) -> Float[Tensor, " draw"]:
    """Return the squared MMD of each resample of two sets.

    Args:
        kernel: Kernel between all features, (n + m, n + m). Its diagonal must be 0.
        x: Number of times that each resample contains each of the first n features.
        y: Number of times that each resample contains each of the other m features.
    """
    n = x.shape[1]

    def mean_within(block: Tensor, counts: Tensor) -> Tensor:
        pairs = counts.sum(dim=1).square() - counts.square().sum(dim=1)
        mean = ((counts @ block) * counts).sum(dim=1) / pairs.clamp(min=1)
        return torch.where(pairs > 0, mean, 1)  # copies of a single feature: k(a, a)

    cross_term = ((x @ kernel[:n, n:]) * y).sum(dim=1) / (x.sum(dim=1) * y.sum(dim=1))
    return mean_within(kernel[:n, :n], x) + mean_within(kernel[n:, n:], y) - 2 * cross_term


def _draw_counts(n: int, generator: torch.Generator) -> Float[Tensor, "draw n"]:
    """Draw resamples of n features, and count how often each feature occurs in each resample."""
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

    k = min(NEIGHBORS, n - 1, m - 1), so that the metrics of very small sets are defined, too.
    Compare values only between sets of equal size.

    Args:
        squared: Squared distances between all rows: the n real ones, then the synthetic ones.
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
    """Return each row's squared distance to the k-th nearest other row, less RADIUS_MARGIN."""
    distances = squared.clone().fill_diagonal_(torch.inf)
    nearest: Tensor = distances.kthvalue(k, dim=1).values
    return nearest * (1 - RADIUS_MARGIN)
