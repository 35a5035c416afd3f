"""How a metric goes with one factor: means of a grid, a forest's curves of drawn settings."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from reports.analysis.dependence import MOST_LINES, MOST_VALUES, partial_dependence
from tests.reports.analysis.planted import METRIC, drawn, grid, nothing, planted
from tests.reports.builder import StoreBuilder


def found(builder: StoreBuilder) -> dict[str, Any]:
    """Every factor's, by its key."""
    made = partial_dependence(builder.study(), METRIC)
    frame: Any = pl.DataFrame
    return {
        one.factor: replace(one, points=frame(one.points), lines=frame(one.lines)) for one in made
    }


@pytest.mark.parametrize(
    ("sizes", "drawn", "ends"),
    [
        ((2, 20, 20), MOST_LINES, {"f1 0, f2 0", "f1 19, f2 19"}),
        ((300, 8), MOST_VALUES // 300, {"f1 0", "f1 7"}),
    ],
)
def test_lines_are_bounded(sizes: tuple[int, ...], drawn: int, ends: set[str]) -> None:
    """A large grid shows some of its lines, from all over it, fewer where levels are many."""
    made = found(grid(sizes, nothing, 2))["f0"]
    assert made.lines["line"].n_unique() == made.drawn == drawn
    assert made.of == math.prod(sizes[1:]) and ends <= set(made.lines["others"].to_list())


def test_forest_follows_a_peak() -> None:
    """The curve of a range that matters has its peak where it was planted; the other's is flat."""
    made = found(drawn(2, 120, lambda s: 4 - 16 * (s["x0"] - 0.5) ** 2))
    peak, flat = made["x0"].points, made["x1"].points
    assert made["x0"].fitted and len(peak) == 20
    best = peak.row(int(np.argmax(peak["mean"].to_numpy())), named=True)
    assert 0.35 < best["x"] < 0.65
    assert np.ptp(peak["mean"].to_numpy()) > 4 * np.ptp(flat["mean"].to_numpy())
    assert (peak["low"] < peak["mean"]).all() and (peak["mean"] < peak["high"]).all()


def test_forest_takes_words_and_inactive_factors() -> None:
    """A factor of words has its levels; one that only some settings have, those settings' lines."""
    rng = np.random.default_rng(0)
    factors: list[dict[str, Any]] = [
        {"key": "name", "levels": ["a", "b"], "log": False, "baseline": "a"},
        {"key": "rate", "levels": None, "log": True, "baseline": 0.01},
    ]
    assignments: list[dict[str, Any]] = []
    for i in range(60):
        active = {"rate": float(10 ** rng.uniform(-4, 0))} if i % 2 else {}
        assignments.append({"name": "ab"[i % 2], "x": float(rng.random()), **active})
    factors.append({"key": "x", "levels": None, "log": False, "baseline": 0.5})
    made = found(
        planted(factors, assignments, lambda s: 3.0 * (s["name"] == "b"), 3, rng, sampler="random")
    )
    low, high = made["name"].points["mean"].to_list()
    assert made["name"].points["level"].to_list() == ["a", "b"] and high > low + 1
    assert made["name"].points["x"].to_list() == [None, None]
    assert made["rate"].lines["line"].n_unique() == 30
    x = made["rate"].points["x"].to_numpy()
    assert np.allclose(np.diff(np.log(x)), np.diff(np.log(x))[0])
