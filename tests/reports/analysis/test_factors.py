"""Shares of factors, interactions and their tests.

They are compared with planted effects and with other calculations.
"""

import numpy as np
import pytest

from reports.analysis import explain_incomparability
from reports.analysis.importance import Importance, compute_importance
from reports.analysis.training import OPTIMAL, make_cost_points
from tests.reports.analysis.planted import METRIC, drawn, grid, nothing
from tests.reports.builder import StoreBuilder


def explained(builder: StoreBuilder) -> Importance:
    """The importance that there must be."""
    return compute_importance(builder.study(), METRIC)


def test_shares_of_a_complete_grid_sum_to_100_percent() -> None:
    """The shares of the factors, the pairs and the remainder are the whole variance."""
    importance = explained(grid((3, 3, 2), lambda s: (1 + s["f0"]) * (1 + s["f1"]) * (1 + s["f2"])))
    parts = [effect.share for effect in (*importance.factors, *importance.pairs)] + [
        importance.rest
    ]
    shares = [part.mean for part in parts if part is not None]
    assert len(shares) == 7 and min(shares) > 0
    assert sum(shares) == pytest.approx(100)


def test_share_is_omega_squared() -> None:
    """If the pooled error is replaced by each seed's, the share is Hays' formula over a grid."""
    builder = grid((2, 3), lambda s: 2.0 * s["f0"])
    y = np.array(
        [[run.metrics[f"test/{METRIC}/seed_{s}"] for s in range(5)] for run in builder.runs]
    )
    cube = y.reshape(2, 3, 5)
    by_level = cube.mean(axis=1)  # (levels, seeds)
    per_seed = by_level - by_level.mean(axis=0)
    squares = 3 * 5 * (per_seed.mean(axis=1) ** 2).sum()
    error = 3 * ((per_seed - per_seed.mean(axis=1, keepdims=True)) ** 2).sum() / 4
    centered = y - y.mean(axis=0)
    total = 5 * (centered.mean(axis=1) ** 2).sum()
    noise = ((centered - centered.mean(axis=1, keepdims=True)) ** 2).sum() / 4
    share = next(e.share for e in explained(builder).factors if e.factors == ("f0",))
    assert share is not None
    assert share.mean == pytest.approx(100 * (squares - error) / (total - noise))


def test_main_effects_do_not_change_the_interaction_test() -> None:
    """Large main effects leave the test of their pair as it is without them."""
    without = explained(grid((3, 4), nothing)).interactions[0]
    mains = grid((3, 4), lambda s: 5.0 * s["f0"] - 2.0 * s["f1"])
    with_mains = explained(mains).interactions[0]
    assert with_mains.statistic == pytest.approx(without.statistic)


def test_factors_of_an_incomplete_grid_have_no_test() -> None:
    """If a configuration is missing, an interaction would count as a factor's effect."""
    builder = grid((3, 3), lambda s: 3.0 * s["f0"] * s["f1"])
    assert all(effect.holm_p is not None for effect in explained(builder).factors)
    builder.runs[-1].tags["ship.state"] = "FAIL"
    lost = explained(builder)
    assert [effect.holm_p for effect in lost.factors] == [None, None]
    assert lost.pairs[0].holm_p is not None


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (("test", "test"), "selection looks at test images"),
        (("pseudo_new", "authors"), "selection looks at test images"),
        (("pseudo_new", "base_val"), "selected on different images"),
    ],
)
def test_incomparable_scores_choose_no_best_configuration(rules: tuple[str, str], why: str) -> None:
    """Scores on test images, or on the images of two rules, do not rank configurations."""
    builder = grid((2, 1), lambda s: float(s["f0"]))
    for run, rule in zip(builder.runs, rules, strict=True):
        run.tags["ship.selection"] = rule
    assert why in explain_incomparability(builder.study())
    points = make_cost_points(builder.study(), METRIC)
    assert points and OPTIMAL not in {point["kind"] for point in points}


def test_a_range_that_matters_has_the_largest_share() -> None:
    """Shares of a sampled study sum to 100%, are over its configurations, and have no test."""
    importance = explained(drawn(3, 40, lambda s: 4 - 16 * (s["x1"] - 0.5) ** 2))
    shares = [effect.share for effect in importance.factors if effect.share]
    assert importance.factors[0].factors == ("x1",) and shares[0].mean > 60
    assert sum(share.mean for share in shares) == pytest.approx(100)
    assert {(share.low, share.high, share.n) for share in shares} == {(None, None, 40)}
    assert {effect.holm_p for effect in importance.factors} == {None} and not importance.pairs
