"""What settings cost against what they reach."""

import numpy as np

from reports.analysis.cost import CostPoint, cost_against
from tests.reports.analysis.planted import METRIC, available, levelled, planted
from tests.reports.builder import StoreBuilder, scores


def test_optimal_points_are_those_that_nothing_beats_for_less() -> None:
    """Marked are the cheapest, and each dearer one that selection scores higher than all before."""
    selected = {0: 50.0, 1: 49.0, 2: 53.0, 3: 52.0, 4: 54.0}
    builder = StoreBuilder(factors=levelled((5,)), seeds=range(3))
    for level, value in selected.items():
        tested = {s: scores(60.0 - level + s) for s in range(3)}  # test would say the reverse
        builder.trial({"f0": level}, tested, selected={METRIC: value})
        builder.runs[-1].metrics["cost/seconds"] = 3.0 * (1 + level)
    points: tuple[CostPoint, ...] = available(cost_against(builder.study(), METRIC))
    assert [(p.label, p.seconds, p.optimal) for p in points] == [
        ("f0 0", 1.0, True), ("f0 1", 2.0, False), ("f0 2", 3.0, True), ("f0 3", 4.0, False),
        ("f0 4", 5.0, True),
    ]  # fmt: skip
    assert all(p.value.n == 3 and p.value.low is not None for p in points)


def test_of_equal_cost_only_the_better_is_optimal() -> None:
    """Two settings that cost the same do not both stand out."""
    builder = planted(
        levelled((2,)), [{"f0": 0}, {"f0": 1}], lambda s: 9.0 * s["f0"], 3, np.random.default_rng(0)
    )
    points: tuple[CostPoint, ...] = available(cost_against(builder.study(), METRIC))
    assert [(p.label, p.optimal) for p in points] == [("f0 1", True), ("f0 0", False)]


def test_unfinished_settings_are_no_points() -> None:
    """A setting that failed has neither a cost nor a number."""
    builder = planted(levelled((2,)), [{"f0": 0}], lambda s: 0.0, 3, np.random.default_rng(0))
    builder.trial({"f0": 1}, {s: {} for s in range(3)}, state="FAIL", reason="worker died")
    assert len(available(cost_against(builder.study(), METRIC))) == 1
