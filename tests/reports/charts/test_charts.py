"""Charts of a study's settings together: each is drawn of the numbers that the analysis has."""

import json
from pathlib import Path

import altair
import pytest

from reports.analysis import LearningCurves
from reports.charts import Chart, for_page, study_charts
from reports.report import make_report
from tests.reports import cases
from tests.reports.analysis.planted import drawn, grid
from tests.reports.analysis.test_curves import with_curves
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.charts.test_factor import values
from tests.reports.listed import listed
from tests.reports.pages import check_golden, shortened
from tests.reports.studies import collapsing, cross_dataset, few_shot, leveled, over_datasets


def charts_of(builder: StoreBuilder, metric: str | None = None) -> dict[str, Chart]:
    """A study's charts by name."""
    analysis = make_report(builder.study(), metric).analysis
    found = study_charts(analysis)
    assert len({chart.name for chart in found}) == len(found)
    return {chart.name: chart for chart in found}


def two_factors() -> StoreBuilder:
    """A grid of 2 by 3 with an effect of the first factor, and an arm at one setting."""
    builder = grid((2, 3), lambda s: 3.0 * s["f0"] + s["f1"] * s["f0"])
    return builder.trial({}, {s: scores(60.0) for s in builder.seeds}, arm="zero_shot")


def sampled() -> StoreBuilder:
    """Settings that were drawn from ranges."""
    return drawn(2, 24, lambda s: 4.0 * s["x0"])


def ranged(log: bool, least: float, count: int = 20) -> StoreBuilder:
    """So many values of a range; by default more than levels can be."""
    factors = [{"key": "generator.n_ctx", "levels": None, "log": log, "baseline": None}]
    values = {0.01 * 1.4**place if place else least: 50.0 + place for place in range(count)}
    return leveled(values, factors=factors, sampler="random", trials=20)


STUDIES = {
    "one-factor": prompt_len, "grid": two_factors, "sampled": sampled, "datasets": over_datasets,
    "few-shot": few_shot, "cross": cross_dataset, "quality": collapsing,
}  # fmt: skip
MORE = {
    "on-test": lambda: prompt_len(selection="test"),
    "uneven-levels": lambda: leveled(dict.fromkeys((0, 1, 2, 4, 24), 55.0), log=True),
    "logarithmic": lambda: ranged(True, 0.01),
    "linear": lambda: ranged(False, 0.01),
    "logarithmic-from-0": lambda: ranged(True, 0.0),
    "few-of-a-range": lambda: ranged(True, 0.01, 3),
    "one-seed": lambda: leveled({2: 55.0, 4: 55.0}, seeds=1),
    "levels-of-a-sampler": lambda: listed("sampled"),
    "costly": lambda: listed("costly"),
    "quality-followed": cases.quality_followed,
}


@pytest.mark.parametrize("name", [*STUDIES, *MORE, "cosine"])
def test_the_charts_of_a_study(name: str) -> None:
    """As they were looked at and committed, but forests, which are scikit-learn's.

    altair knows each specification, and it has words for who cannot see.
    """
    if name == "cosine":
        charts = charts_of(collapsing(), "quality/cosine_to_mean")
    else:
        charts = charts_of((STUDIES | MORE)[name]())
    assert charts
    for chart in charts.values():
        altair.Chart.from_dict(for_page(chart.spec))
        assert chart.spec["description"] == chart.caption and chart.caption.endswith(".")
    drawn = {key: one.spec for key, one in charts.items() if "by a forest" not in str(one.spec)}
    text = shortened(json.dumps(drawn, ensure_ascii=False).replace("}, {", "},\n{"))
    check_golden(Path(__file__).parent / "golden" / f"{name}.json", text)


def test_dependence_has_the_data_of_a_grid_and_a_forest_of_draws() -> None:
    """It says which it is."""
    assert "settings as they are" in charts_of(two_factors())["dependence-f0"].spec["title"][0]
    assert "fitted by a forest" in charts_of(sampled())["dependence-x0"].spec["title"][0]


def test_curves() -> None:
    """A curve for each setting that logged its objective, by the steps of its run."""
    logged = {f"run{i}": [50.0, 51.0, 52.0] for i in range(5)}
    analysis = make_report(with_curves(grid((5,), lambda s: 0.0, 2), logged)).analysis
    assert isinstance(analysis.curves, LearningCurves) and analysis.curves.settings == 5
    charts = {chart.name: chart for chart in study_charts(analysis)}
    curve = values(charts["curves"], "curves")
    assert len(curve) == 15 and {one["y"] for one in curve} == {50.0, 51.0, 52.0}
