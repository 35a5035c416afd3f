"""The importance of factors and of pairs, against known effects and other ways to compute it."""

import numpy as np
import pytest

from reports.analysis.importance import Importance, importance
from tests.reports.analysis.planted import METRIC, grid, nothing
from tests.reports.builder import StoreBuilder


def found(builder: StoreBuilder) -> Importance:
    """The importance that there must be."""
    return importance(builder.study(), METRIC)


def test_shares_of_a_whole_grid_add_up() -> None:
    """Factors, pairs and the rest are all of the variance of a complete grid."""
    made = found(grid((3, 3, 2), lambda s: (1 + s["f0"]) * (1 + s["f1"]) * (1 + s["f2"])))
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
    share = next(e.share for e in found(builder).factors if e.factors == ("f0",))
    assert share is not None
    assert share.mean == pytest.approx(100 * (own - error) / (total - noise))


def test_additive_effects_are_no_interaction() -> None:
    """Large main effects alone leave the test of their pair as it is without them."""
    without = found(grid((3, 4), nothing)).interactions[0]
    mains = grid((3, 4), lambda s: 5.0 * s["f0"] - 2.0 * s["f1"])
    with_mains = found(mains).interactions[0]
    assert with_mains.statistic == pytest.approx(without.statistic)
