"""k-NN metrics against brute force over every pair."""

import math

import pytest
import torch

from ship.quality.distances import manifold_metrics, squared_distances
from tests.ship.quality.planted import unit


def metrics_of(real: torch.Tensor, made: torch.Tensor) -> dict[str, float]:
    """The metrics, from the features themselves."""
    return manifold_metrics(squared_distances(torch.cat([real, made])), len(real))


def brute_force(real: list[list[float]], made: list[list[float]], k: int) -> dict[str, float]:
    """The definitions, point by point."""

    def radius(points: list[list[float]], i: int) -> float:
        return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    balls = [(x, radius(real, i)) for i, x in enumerate(real)]
    made_balls = [(s, radius(made, j)) for j, s in enumerate(made)]
    hits = [[math.dist(x, s) < r for s in made] for x, r in balls]
    return {
        "precision": sum(any(row[j] for row in hits) for j in range(len(made))) / len(made),
        "recall": sum(any(math.dist(x, s) < r for s, r in made_balls) for x in real) / len(real),
        "density": sum(map(sum, hits)) / (k * len(made)),
        "coverage": sum(map(any, hits)) / len(real),
    }


@pytest.mark.parametrize(("n", "m", "k"), [(30, 20, 5), (9, 40, 5), (3, 8, 2), (12, 2, 1)])
def test_equals_brute_force(n: int, m: int, k: int) -> None:
    """Every ball and every point, with fewer neighbours where there are few pictures."""
    real, made = unit(n, 3, seed=1), unit(m, 3, seed=2)
    assert metrics_of(real, made) == pytest.approx(brute_force(real.tolist(), made.tolist(), k))
