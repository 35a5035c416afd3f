"""Charts of a study's settings together: each is drawn of the numbers that the analysis has."""

import re

import altair
import polars as pl
import pytest

from reports.analysis import AblationPath, Analysis, Importance, LearningCurves, Unavailable
from reports.charts import Chart, for_page, study_charts
from reports.report import make_report
from tests.reports.analysis.planted import drawn, grid
from tests.reports.analysis.test_curves import with_curves
from tests.reports.builder import StoreBuilder, prompt_len
from tests.reports.cases import quality_followed
from tests.reports.charts.test_factor import values
from tests.reports.studies import collapsing, cross_dataset, few_shot, over_datasets


def charts_of(builder: StoreBuilder) -> tuple[Analysis, dict[str, Chart]]:
    """A study's analysis, and its charts by name."""
    analysis = make_report(builder.study()).analysis
    found = [chart for section in study_charts(analysis) for chart in section.charts]
    assert len({chart.name for chart in found}) == len(found)
    return analysis, {chart.name: chart for chart in found}


def two_factors() -> StoreBuilder:
    """A grid of 2 by 3 with an effect of the first factor."""
    return grid((2, 3), lambda s: 3.0 * s["f0"] + s["f1"] * s["f0"])


def sampled() -> StoreBuilder:
    """Settings that were drawn from ranges."""
    return drawn(2, 24, lambda s: 4.0 * s["x0"])


STUDIES = {
    "one factor": prompt_len, "grid": two_factors, "sampled": sampled, "datasets": over_datasets,
    "few shot": few_shot, "cross": cross_dataset, "quality": collapsing,
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_every_chart_is_vega_lite(name: str) -> None:
    """altair knows each specification, and it has words for who cannot see."""
    _, charts = charts_of(STUDIES[name]())
    assert charts
    for chart in charts.values():
        altair.Chart.from_dict(for_page(chart.spec))
        assert chart.spec["description"] == chart.caption and chart.caption.endswith(".")


def test_importance_is_that_of_the_analysis() -> None:
    """A point for each factor and pair that has a share, the largest first."""
    analysis, charts = charts_of(two_factors())
    assert isinstance(analysis.importance, Importance)
    drawn = values(charts["importance"], "shares")
    effects = [*analysis.importance.factors, *analysis.importance.pairs]
    expected = sorted((e.share.mean for e in effects if e.share), reverse=True)
    assert [one["share"] for one in drawn] == expected and drawn[0]["effect"] == "f0"


def test_the_path_starts_at_the_baseline() -> None:
    """A point for each step, from 0 on, with the difference that the table has."""
    analysis, charts = charts_of(two_factors())
    assert isinstance(analysis.path, AblationPath)
    steps = values(charts["path"], "steps")
    assert steps[0]["step"] == "baseline" and steps[0]["y"] == 0
    totals = [s.total.difference.mean for s in analysis.path.steps if s.total]
    assert [one["y"] for one in steps[1:]] == totals
    signs = "".join("−" if total < 0 else "+" for total in totals)
    assert re.findall(r" → \d+ \(([+−])\d+\.\d\)", charts["path"].caption) == list(signs)


def test_a_heat_map_has_every_two_levels() -> None:
    """Its cells are those of the analysis."""
    analysis, charts = charts_of(two_factors())
    assert not isinstance(analysis.interactions, Unavailable)
    (pair,) = analysis.interactions
    cells = charts["interaction-f0-f1"].spec["data"]["values"]
    assert [cell["mean"] for cell in cells] == pair.cells["mean"].to_list() and len(cells) == 6


def test_parallel_lines_go_through_every_factor() -> None:
    """A place for each setting and factor, between 0 and 1."""
    _, charts = charts_of(sampled())
    lines = values(charts["parallel"], "settings")
    assert len(lines) == 24 * len({one["factor"] for one in lines})
    assert min(one["at"] for one in lines) == 0 and max(one["at"] for one in lines) == 1


def test_dependence_has_the_data_of_a_grid_and_a_forest_of_draws() -> None:
    """It says which it is."""
    assert "settings as they are" in charts_of(two_factors())[1]["dependence-f0"].spec["title"][0]
    assert "fitted by a forest" in charts_of(sampled())[1]["dependence-x0"].spec["title"][0]


def test_a_measure_stands_against_the_metric() -> None:
    """A point for each setting with synthesized features, the means of both over seeds."""
    study = quality_followed().study()
    made = values(charts_of(quality_followed())[1]["quality-synthetic_to_real"], "settings")
    names = ("test/quality/synthetic_to_real", "test/harmonic_mean")
    settings = study.rows.filter(pl.col("arm") == "").group_by("setting_key")
    columns = settings.agg(pl.col(names).mean()).select(names).rows()
    assert sorted((one["x"], one["y"]) for one in made) == [
        pytest.approx(pair) for pair in sorted(columns)
    ]


def test_curves() -> None:
    """A curve for each setting that logged its objective, by the steps of its run."""
    logged = {f"run{i}": [50.0, 51.0, 52.0] for i in range(5)}
    analysis = make_report(with_curves(grid((5,), lambda s: 0.0, 2), logged)).analysis
    assert isinstance(analysis.curves, LearningCurves) and analysis.curves.settings == 5
    charts = {c.name: c for section in study_charts(analysis) for c in section.charts}
    curve = values(charts["curves"], "curves")
    assert len(curve) == 15 and {one["y"] for one in curve} == {50.0, 51.0, 52.0}
