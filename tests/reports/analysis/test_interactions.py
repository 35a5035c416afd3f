"""Means of every two levels of a grid, and whether they are more than additive."""

import pytest

from reports.analysis.interactions import Interaction, interactions
from tests.reports.analysis.planted import METRIC, available, grid, nothing
from tests.reports.builder import StoreBuilder


def found(builder: StoreBuilder) -> tuple[Interaction, ...]:
    """The pairs that there must be."""
    made = available(interactions(builder.study(), METRIC))
    assert isinstance(made, tuple)
    return made


def test_additive_effects_are_no_interaction() -> None:
    """Large main effects alone leave the test of their pair as it is without them."""
    without = found(grid((3, 4), nothing))[0]
    with_mains = found(grid((3, 4), lambda s: 5.0 * s["f0"] - 2.0 * s["f1"]))[0]
    assert with_mains.statistic == pytest.approx(without.statistic)
