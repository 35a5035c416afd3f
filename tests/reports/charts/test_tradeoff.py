"""Base against New: points, lines of equal H, and configurations that no other one dominates."""

import pytest

from reports.charts.tradeoff import make_tradeoff_chart
from tests.reports.builder import StoreBuilder, scores
from tests.reports.charts.test_charts import values
from tests.reports.studies import cross_dataset

PLACE = ("configurations", "tradeoff")
FACTOR = {"key": "generator.n_ctx", "levels": [1, 2, 3], "log": False, "baseline": 1}


def three_levels() -> StoreBuilder:
    """Level 2 is better in New, level 3 in Base, and level 1 in neither."""
    builder = StoreBuilder("three", [FACTOR], seeds=[0, 1])
    for level, new, base in ((1, 50.0, 60.0), (2, 56.0, 60.0), (3, 50.0, 66.0)):
        builder.trial({"generator.n_ctx": level}, {seed: scores(new, base) for seed in (0, 1)})
    return builder.trial({}, {seed: scores(70.0, 70.0) for seed in (0, 1)}, control="real_images")


def test_points_are_means_and_the_front_is_marked() -> None:
    """A control is never on the front, although it is better in both halves."""
    (chart,) = make_tradeoff_chart(three_levels().study(), "harmonic_mean", PLACE)
    points = {point["label"]: point for point in values(chart, "configurations")}
    assert [point["kind"] for point in points.values()].count("control") == 1
    front = {label for label, point in points.items() if point["kind"].startswith("Pareto-optimal")}
    assert front == {"n_ctx 2", "n_ctx 3"}
    assert (points["n_ctx 3"]["x"], points["n_ctx 3"]["y"]) == pytest.approx((66.0, 50.0))


def test_lines_have_equal_harmonic_means() -> None:
    """On each line 2xy / (x + y) is constant, and the caption lists the values."""
    (chart,) = make_tradeoff_chart(three_levels().study(), "harmonic_mean", PLACE)
    lines = values(chart, "equal")
    assert len({line["h"] for line in lines}) >= 3
    for line in lines:
        mean = 2 * line["x"] * line["y"] / (line["x"] + line["y"])
        assert mean == pytest.approx(line["h"], abs=1e-3)
        assert f"{line['h']:g}" in chart.caption


def test_other_metrics_have_no_tradeoff_chart() -> None:
    """The same is true for a study with one finished group."""
    assert not [*make_tradeoff_chart(three_levels().study(), "base", PLACE)]
    study = cross_dataset().study()
    assert not [*make_tradeoff_chart(study, "average", PLACE)]
    builder = StoreBuilder("one", [FACTOR], seeds=[0])
    builder.trial({"generator.n_ctx": 1}, {0: scores(50.0)})
    assert not [*make_tradeoff_chart(builder.study(), "harmonic_mean", PLACE)]
