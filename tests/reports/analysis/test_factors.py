"""Factors: how a metric goes with one, and what they explain.

Against effects that are known, and other ways to compute it.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from reports.analysis import incomparable
from reports.analysis.dependence import MOST_LINES, MOST_VALUES, partial_dependence
from reports.analysis.importance import Importance, importance
from reports.analysis.training import OPTIMAL, cost_points
from tests.reports.analysis.planted import METRIC, drawn, grid, nothing, planted
from tests.reports.builder import StoreBuilder
from tests.reports.studies import crossed


def dependence(builder: StoreBuilder) -> dict[str, Any]:
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
    made = dependence(grid(sizes, nothing, 2))["f0"]
    assert made.lines["line"].n_unique() == made.drawn == drawn
    assert made.of == math.prod(sizes[1:]) and ends <= set(made.lines["others"].to_list())


def test_forest_follows_a_peak() -> None:
    """The curve of a range that matters has its peak where it was planted; the other's is flat."""
    made = dependence(drawn(2, 120, lambda s: 4 - 16 * (s["x0"] - 0.5) ** 2))
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
    made = dependence(
        planted(factors, assignments, lambda s: 3.0 * (s["name"] == "b"), 3, rng, sampler="random")
    )
    low, high = made["name"].points["mean"].to_list()
    assert made["name"].points["level"].to_list() == ["a", "b"] and high > low + 1
    assert made["name"].points["x"].to_list() == [None, None]
    assert made["rate"].lines["line"].n_unique() == 30
    x = made["rate"].points["x"].to_numpy()
    assert np.allclose(np.diff(np.log(x)), np.diff(np.log(x))[0])


def explained(builder: StoreBuilder) -> Importance:
    """The importance that there must be."""
    return importance(builder.study(), METRIC)


def test_shares_of_a_whole_grid_add_up() -> None:
    """Factors, pairs and the rest are all of the variance of a complete grid."""
    made = explained(grid((3, 3, 2), lambda s: (1 + s["f0"]) * (1 + s["f1"]) * (1 + s["f2"])))
    parts = [effect.share for effect in (*made.factors, *made.pairs)] + [made.rest]
    shares = [part.mean for part in parts if part is not None]
    assert len(shares) == 7 and min(shares) > 0
    assert sum(shares) == pytest.approx(100)


def test_share_is_omega_squared() -> None:
    """With the pooled error replaced by each seed's, the share is Hays' formula over a grid."""
    builder = grid((2, 3), lambda s: 2.0 * s["f0"])
    y = np.array(
        [[run.metrics[f"seed_{s}/test/{METRIC}"] for s in range(5)] for run in builder.runs]
    )
    cube = y.reshape(2, 3, 5)
    by_level = cube.mean(axis=1)  # (levels, seeds)
    per_seed = by_level - by_level.mean(axis=0)
    own = 3 * 5 * (per_seed.mean(axis=1) ** 2).sum()
    error = 3 * ((per_seed - per_seed.mean(axis=1, keepdims=True)) ** 2).sum() / 4
    centred = y - y.mean(axis=0)
    total = 5 * (centred.mean(axis=1) ** 2).sum()
    noise = ((centred - centred.mean(axis=1, keepdims=True)) ** 2).sum() / 4
    share = next(e.share for e in explained(builder).factors if e.factors == ("f0",))
    assert share is not None
    assert share.mean == pytest.approx(100 * (own - error) / (total - noise))


def test_additive_effects_are_no_interaction() -> None:
    """Large main effects alone leave the test of their pair as it is without them."""
    without = explained(grid((3, 4), nothing)).interactions[0]
    mains = grid((3, 4), lambda s: 5.0 * s["f0"] - 2.0 * s["f1"])
    with_mains = explained(mains).interactions[0]
    assert with_mains.statistic == pytest.approx(without.statistic)


def test_factors_of_an_incomplete_grid_have_no_test() -> None:
    """Without one configuration an interaction would count as a factor's effect."""
    builder = grid((3, 3), lambda s: 3.0 * s["f0"] * s["f1"])
    assert all(effect.holm is not None for effect in explained(builder).factors)
    builder.runs[-1].tags["ship.state"] = "FAIL"
    lost = explained(builder)
    assert [effect.holm for effect in lost.factors] == [None, None]
    assert lost.pairs[0].holm is not None


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (("test", "test"), "selection looks at test pictures"),
        (("pseudo_new", "reference"), "selection looks at test pictures"),
        (("pseudo_new", "base_val"), "selected on different pictures"),
    ],
)
def test_scores_that_do_not_compare_lead_nowhere(rules: tuple[str, str], why: str) -> None:
    """Neither test pictures nor two rules' different pictures decide which setting is better."""
    builder = grid((2, 1), lambda s: float(s["f0"]))
    for run, rule in zip(builder.runs, rules, strict=True):
        run.tags["ship.selection"] = rule
    assert why in incomparable(builder.study())
    points = cost_points(builder.study(), METRIC)
    assert points and OPTIMAL not in {point["kind"] for point in points}


def test_lines_of_settings_with_one_name_are_two() -> None:
    """Levels that are rounded to one text are still two settings of the other factors."""
    levels = {"shots": [1, 2], "generator.scale": [0.9991, 0.9994]}
    study = crossed(levels, lambda shots, scale, s: 60 + shots + 1e3 * scale + s % 2, seeds=3)
    (found, _) = partial_dependence(study.study(), METRIC)
    assert (found.factor, found.of) == ("shots", 2)
