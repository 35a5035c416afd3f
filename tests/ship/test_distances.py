"""Distances equal independent derivations and redraws; k-NN metrics equal brute force."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ship.distances import (
    LabeledSet,
    compute_squared_distances,
    draw_evenly,
    frechet,
    manifold_metrics,
    mmd,
    select_shared_classes,
)


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Random unit-norm rows in double precision."""
    return F.normalize(torch.randn(shape, generator=generator(seed), dtype=torch.float64), dim=-1)


def clustered(
    centers: Tensor, per_class: int, spread: float = 0.5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Unit-norm features around each class's center, and their labels."""
    labels = torch.arange(len(centers)).repeat_interleave(per_class)
    noise = unit(len(labels), centers.shape[1], seed=seed)
    return F.normalize(centers[labels] + spread * noise, dim=1), labels


def generator(seed: int = 0) -> torch.Generator:
    """A seeded stream."""
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    """Draw normal rows around one point."""
    return shift + scale * torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def mmd_of(x: torch.Tensor, y: torch.Tensor, seed: int = 0) -> tuple[float, float]:
    """Compute the discrepancy and its error from features."""
    return mmd(compute_squared_distances(torch.cat([x, y])), len(x), generator(seed))


@pytest.mark.parametrize(("n", "m", "d"), [(40, 50, 6), (40, 5, 6), (7, 9, 12), (30, 8, 12)])
def test_frechet_equals_scipys_matrix_square_root(n: int, m: int, d: int) -> None:
    """For small and large sets."""
    x, y = gaussian(n, d, 0).numpy(), gaussian(m, d, 1, shift=0.3, scale=0.5).numpy()
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    if n > d and m > d:
        root = np.trace(scipy.linalg.sqrtm(cov_x @ cov_y)).real
    else:  # sqrtm is unreliable on singular matrices; the root's trace is that of its eigenvalues
        root = np.sqrt(np.clip(np.linalg.eigvals(cov_x @ cov_y).real, 0, None)).sum()
    gap = ((x.mean(0) - y.mean(0)) ** 2).sum()
    expected = gap + np.trace(cov_x) + np.trace(cov_y) - 2 * root
    assert frechet(torch.from_numpy(x), torch.from_numpy(y))[0] == pytest.approx(expected, rel=1e-5)


def test_frechet_error_equals_the_spread_over_redraws() -> None:
    """The closed form agrees with fresh samples."""
    fresh = [
        frechet(gaussian(400, 4, 2 * i), gaussian(300, 4, 2 * i + 1, shift=0.4, scale=0.6))
        for i in range(200)
    ]
    values, errors = torch.tensor(fresh).T
    assert errors.mean() == pytest.approx(float(values.std()), rel=0.2)


def test_frechet_error_equals_the_jackknife() -> None:
    """Also for skewed sets, where means and covariances are correlated."""
    sets = gaussian(200, 3, 0).square(), gaussian(150, 3, 1, shift=0.4, scale=0.6).square()
    total = 0.0
    for rows, other_rows in (sets, sets[::-1]):
        n = len(rows)
        left = [frechet(rows[torch.arange(n) != i], other_rows)[0] for i in range(n)]
        total += (n - 1) ** 2 / n * float(torch.tensor(left).var())
    assert frechet(*sets)[1] == pytest.approx(math.sqrt(total), rel=0.03)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 50, 100), (60, 40, 32)])
def test_frechet_error_is_within_twofold_for_small_sets(n: int, m: int, d: int) -> None:
    """With fewer images than dimensions, or hardly more."""
    fresh = [
        frechet(gaussian(n, d, 2 * i), gaussian(m, d, 2 * i + 1, shift=0.3)) for i in range(60)
    ]
    values, errors = torch.tensor(fresh).T
    assert 0.5 < float(errors.mean() / values.std()) < 2


def test_mmd_equals_a_double_loop() -> None:
    """The kernel sums and the bandwidth follow the definition."""
    x, y = unit(7, 4, seed=0), unit(6, 4, seed=1)
    z = torch.cat([x, y]).tolist()
    pairs = sorted(math.dist(a, b) for i, a in enumerate(z) for b in z[:i])
    sigma = pairs[(len(pairs) - 1) // 2]

    def k(a: list[float], b: list[float]) -> float:
        return math.exp(-(math.dist(a, b) ** 2) / (2 * sigma**2))

    xs, ys = x.tolist(), y.tolist()
    own_x = sum(k(xs[i], xs[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    own_y = sum(k(ys[i], ys[j]) for i in range(6) for j in range(6) if i != j) / (6 * 5)
    across = sum(k(a, b) for a in xs for b in ys) / (7 * 6)
    assert mmd_of(x, y)[0] == pytest.approx(own_x + own_y - 2 * across, abs=1e-12)


def test_mmd_of_copies_ignores_round_off() -> None:
    """For 16 features of a class that differ only in their last bits."""
    x, y = gaussian(5, 8, 0), gaussian(1, 8, 1).repeat(16, 1)
    nearly = y + 1e-8 * gaussian(16, 8, 2)
    assert mmd_of(x, nearly)[0] == pytest.approx(mmd_of(x, y)[0], abs=1e-6)


def test_mmd_error_equals_the_spread_over_redraws() -> None:
    """The bootstrap agrees with fresh samples of different sets."""
    fresh = [
        mmd_of(gaussian(150, 3, 2 * i), gaussian(120, 3, 2 * i + 1, shift=0.5), seed=i)
        for i in range(100)
    ]
    values, errors = torch.tensor(fresh).T
    assert errors.mean() == pytest.approx(float(values.std()), rel=0.25)


@pytest.mark.parametrize("n", [2, 40])
def test_mmd_without_distances_is_finite(n: int) -> None:
    """Sets with zero distances have a value."""
    same = unit(1, 4).expand(n, -1)
    assert mmd_of(same, same) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    value, error = mmd_of(torch.cat([same[:-1], unit(1, 4, seed=1)]), same)
    assert math.isfinite(value) and math.isfinite(error)


def metrics_of(real: torch.Tensor, synthetic: torch.Tensor) -> dict[str, float]:
    """Compute the metrics from features."""
    return manifold_metrics(compute_squared_distances(torch.cat([real, synthetic])), len(real))


def brute_force(real: list[list[float]], synthetic: list[list[float]], k: int) -> dict[str, float]:
    """Compute the metrics point by point."""

    def radius(points: list[list[float]], i: int) -> float:
        return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    balls = [(x, radius(real, i)) for i, x in enumerate(real)]
    made_balls = [(s, radius(synthetic, j)) for j, s in enumerate(synthetic)]
    hit = [[math.dist(x, s) < r for s in synthetic] for x, r in balls]
    return {
        "precision": sum(any(row[j] for row in hit) for j in range(len(synthetic)))
        / len(synthetic),
        "recall": sum(any(math.dist(x, s) < r for s, r in made_balls) for x in real) / len(real),
        "density": sum(map(sum, hit)) / (k * len(synthetic)),
        "coverage": sum(map(any, hit)) / len(real),
    }


@pytest.mark.parametrize(("n", "m", "k"), [(30, 20, 5), (9, 40, 5), (3, 8, 2), (12, 2, 1)])
def test_manifold_metrics_equal_brute_force(n: int, m: int, k: int) -> None:
    """Every ball and every point, with fewer neighbors for small sets."""
    real, synthetic = unit(n, 3, seed=1), unit(m, 3, seed=2)
    assert metrics_of(real, synthetic) == pytest.approx(
        brute_force(real.tolist(), synthetic.tolist(), k)
    )


def test_only_shared_classes_are_compared() -> None:
    """Classes in one set only are dropped, and labels are renumbered."""
    text = unit(6, 4)
    synthetic = LabeledSet(unit(4, 4, seed=1), torch.tensor([5, 1, 3, 5]))
    real = LabeledSet(unit(5, 4, seed=2), torch.tensor([5, 3, 0, 3, 3]))
    ours, theirs, texts = select_shared_classes(synthetic, real, text, generator())
    torch.testing.assert_close(texts, text[[3, 5]])
    assert ours.labels.tolist() == [1, 0, 1]
    torch.testing.assert_close(ours.features, synthetic.features[[0, 2, 3]])
    assert theirs.labels.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(theirs.features, real.features[[0, 1, 3, 4]])
    apart = LabeledSet(real.features, torch.full((5,), 2))
    assert len(select_shared_classes(synthetic, apart, text, generator())[2]) == 0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(5, 40), st.integers(0, 9))
def test_draw_evenly_balances_classes(labels: list[int], size: int, seed: int) -> None:
    """Rows are distinct, and no class is short while another one has more."""
    ids = torch.tensor(labels)
    kept = draw_evenly(ids, size, generator(seed))
    assert kept.tolist() == sorted(set(kept.tolist())) and len(kept) == min(size, len(ids))
    before, after = ids.bincount(minlength=5), ids[kept].bincount(minlength=5)
    short = after < before
    if short.any():
        assert after[short].min() >= after.max() - 1
