"""Means of every two levels of a grid, and whether they are more than additive."""

import pytest

from reports.analysis.importance import importance
from tests.reports.analysis.planted import METRIC, grid, nothing


def test_additive_effects_are_no_interaction() -> None:
    """Large main effects alone leave the test of their pair as it is without them."""
    without = importance(grid((3, 4), nothing).study(), METRIC).interactions[0]
    mains = grid((3, 4), lambda s: 5.0 * s["f0"] - 2.0 * s["f1"])
    with_mains = importance(mains.study(), METRIC).interactions[0]
    assert with_mains.statistic == pytest.approx(without.statistic)
