"""Means of every two levels of a grid, and whether they are more than additive."""

import numpy as np
import pytest

from reports.analysis.interactions import Interaction, interactions
from reports.stats import percent_interval
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


def test_cells_are_means_with_intervals_over_seeds() -> None:
    """A cell is the mean over the third factor, each seed by itself; all levels in their order."""
    builder = grid((2, 2, 3), lambda s: s["f0"] + s["f2"])
    pair = next(p for p in found(builder) if p.factors == ("f0", "f1"))
    assert pair.cells.select("first", "second").rows() == [
        ("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")
    ]  # fmt: skip
    own = [run for run in builder.runs if '"f0": 1, "f1": 0' in run.tags["ship.assignment"]]
    values = [
        float(np.mean([run.metrics[f"seed_{s}/test/{METRIC}"] for run in own])) for s in range(5)
    ]
    estimate = percent_interval(values)
    row = pair.cells.row(2, named=True)
    assert row["mean"] == pytest.approx(estimate.mean)
    assert row["low"] == pytest.approx(estimate.low)
    assert (row["n"], row["settings"]) == (5, 3)
