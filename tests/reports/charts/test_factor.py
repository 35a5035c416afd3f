"""Charts of a factor: what is drawn is what the table says, and a chart says what it must."""

from typing import Any

import pytest

from reports.charts import Chart, factor_chart, factor_charts
from reports.read.addresses import run_address, runs_address
from reports.report import make_report
from reports.tables.build import build_tables
from tests.reports.analysis.planted import grid
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.studies import collapsing, leveled, over_datasets

N_CTX = "generator.n_ctx"


def draw(builder: Any, place: int = 0) -> Chart:
    """The chart of a study's factor."""
    study = builder.study()
    chart = factor_chart(study, study.factors[place], "harmonic_mean")
    assert chart is not None
    return chart


def layer(chart: Chart, name: str) -> dict[str, Any]:
    """The layer of that name."""
    (found,) = [one for one in chart.spec["layer"] if one.get("name") == name]
    return dict(found)


def values(chart: Chart, name: str) -> list[dict[str, Any]]:
    """The data of a layer, or of the chart where its layers share them."""
    return list(layer(chart, name).get("data", chart.spec.get("data"))["values"])


def legend(chart: Chart) -> list[str]:
    """The reference arms' words, as the legend has them."""
    return list(layer(chart, "arms")["encoding"]["color"]["scale"]["domain"])


def test_means_intervals_and_dots_are_the_tables() -> None:
    """Markers, intervals and dots hold exactly the numbers of the ablation table."""
    builder = prompt_len()
    table, *_ = build_tables(builder.study())
    chart = draw(builder)
    estimates = [row.cells["harmonic_mean"].estimate for row in table.rows[:5]]
    drawn = values(chart, "means")
    assert [one["level"] for one in drawn] == ["1", "2", "4", "8", "16"]
    assert [(one["y"], one["low"], one["high"], one["n"]) for one in drawn] == [
        (e.mean, e.low, e.high, e.n) for e in estimates
    ]
    assert values(chart, "intervals") == drawn
    rows = builder.study().rows.drop_nulls(N_CTX)
    expected = {(str(n), y) for n, y in rows.select(N_CTX, "test/harmonic_mean").rows()}
    assert {(dot["level"], dot["y"]) for dot in values(chart, "seeds")} == expected


def test_arms_are_lines_or_named_as_beyond() -> None:
    """Near arms are lines at their mean; a far one is named in the legend."""
    builder = prompt_len()
    chart = draw(builder)
    rows = builder.study().rows
    lines = {one["arm"].rsplit(" ", 1)[0]: one["y"] for one in values(chart, "arms")}
    for arm, label in (("zero_shot", "zero-shot"), ("text_feature", "text feature")):
        mean = rows.filter(rows["arm"] == arm)["test/harmonic_mean"].mean()
        assert lines[label] == pytest.approx(mean)
    assert "real pictures (ceiling) 70.7 (beyond)" in legend(chart)
    assert len(legend(chart)) == 4 and len(lines) == 3
    assert layer(chart, "arms")["encoding"]["y"]["scale"]["domain"][1] < 65


@pytest.mark.parametrize("levels", [[1, 2, 4, 8, 16], [1e-4, 1e-2, 1.0], [0, 1, 2, 4, 24]])
def test_every_level_has_its_label(levels: list[float]) -> None:
    """Levels stand at equal distances in their order, so that 0, 1 and 2 beside 24 can be read."""
    x = layer(draw(leveled(dict.fromkeys(levels, 55.0), log=True)), "seeds")["encoding"]["x"]
    assert x["type"] == "ordinal" and list(map(float, x["sort"])) == levels


@pytest.mark.parametrize(("log", "least", "scale"), [
    (True, 0.01, "log"), (False, 0.01, "linear"), (True, 0.0, "linear")
])  # fmt: skip
def test_a_range_has_a_continuous_axis(log: bool, least: float, scale: str) -> None:
    """More values than levels can be: a logarithmic axis where the factor is and none is 0."""
    factors = [{"key": N_CTX, "levels": None, "log": log, "baseline": None}]
    values = {0.01 * 1.4**place if place else least: 50.0 + place for place in range(20)}
    x = layer(draw(leveled(values, factors=factors, sampler="random", trials=20)), "seeds")
    axis = x["encoding"]["x"]
    assert (axis["type"], axis["scale"]["type"]) == ("quantitative", scale)


def test_categories_are_not_joined() -> None:
    """Names stand in the study's order, and no line leads from one to another."""
    names = {"tip_adapter": 55.0, "coop": 55.0}
    charts = [draw(leveled(names, "finetuner")), draw(leveled({2: 55.0, 4: 55.0}))]
    assert layer(charts[0], "seeds")["encoding"]["x"]["sort"] == list(names)
    lines = [any(one["mark"]["type"] == "line" for one in c.spec["layer"]) for c in charts]
    assert lines == [False, True]


def test_one_seed_has_a_mark_and_no_interval() -> None:
    """Without an interval none is drawn."""
    chart = draw(leveled({2: 55.0, 4: 55.0}, seeds=1))
    assert len(values(chart, "means")) == 2 and values(chart, "intervals") == []


def test_sampled_study_shows_settings_and_no_level_means() -> None:
    """Where a sampler chose the other factors, a level's mean would mean nothing."""
    factors = [
        {"key": "generator.kl_weight", "levels": None, "log": True, "baseline": None},
        {"key": N_CTX, "levels": [1, 2], "log": False, "baseline": 1},
    ]
    builder = StoreBuilder(factors=factors, sampler="tpe", trials=6, seeds=(0, 1))
    for place in range(6):
        assignment = {"generator.kl_weight": 0.01 * 2**place, N_CTX: 1 + place % 2}
        builder.trial(assignment, {s: scores(50.0 + place + s) for s in range(2)})
    chart = draw(builder, 1)
    assert len(values(chart, "seeds")) == 6
    assert not [one for one in chart.spec["layer"] if one.get("name") == "means"]
    assert "each dot one setting" in chart.spec["title"][0]


@pytest.mark.parametrize("selection", ["test", "pseudo_new"])
def test_title_carries_the_warnings(selection: str) -> None:
    """A picture travels without its table, so it says so itself."""
    title = " ".join(draw(prompt_len(selection=selection)).spec["title"])
    assert ("selected on test" in title) == (selection == "test")
    assert "demonstration backbone" in title


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("sqlite:////x/mlflow.db", "http://127.0.0.1:5000"),
        ("https://me:secret@host:8/ml/?token=x", "https://host:8/ml"),
    ],
)
def test_a_run_s_address(uri: str, base: str) -> None:
    """Of MLflow's UI, without a secret of the store's address; none of an id that is no id."""
    runs = runs_address(uri, "7")
    assert run_address(runs, "ab12") == f"{base}/#/experiments/7/runs/ab12"
    assert run_address(runs, "javascript:alert(1)") == run_address("", "ab12") == ""


def test_dots_lead_to_their_runs(store_uri: str) -> None:
    """A click on a seed opens the run that measured it."""
    from reports.read import load_records

    study = load_records("prompt_len", prompt_len().write(store_uri))
    chart = factor_chart(study, study.factors[0], "harmonic_mean")
    assert chart is not None
    runs = {dot["run"] for dot in values(chart, "seeds")}
    own = study.rows.filter(study.rows["arm"] == "")["run_id"].unique().to_list()
    assert runs == set(own) and layer(chart, "seeds")["encoding"]["href"] == {"field": "href"}
    (made,) = layer(chart, "seeds")["transform"]
    assert f'"{study.runs_address}" + datum.run' in made["calculate"]


def test_a_grid_of_several_factors_has_no_line_of_one_setting() -> None:
    """The reference arms are at one setting: beside means over others they would mislead."""
    builder = grid((2, 2), lambda s: 0.0)
    for arm in ("zero_shot", "no_synthetic"):
        builder.trial({}, {s: scores(60.0) for s in builder.seeds}, arm=arm)
    for chart in factor_charts(builder.study(), "harmonic_mean"):
        assert not [one for one in chart.spec["layer"] if one.get("name") == "arms"]


def test_a_measure_in_a_unit_of_its_own_has_its_own_axis() -> None:
    """A cosine is no percentage, and its axis is as wide as its values."""
    made = make_report(collapsing().study(), "quality/cosine_to_mean")
    chart = factor_chart(made.study, made.study.factors[0], made.metric)
    assert chart is not None
    y = layer(chart, "means")["encoding"]["y"]
    low, high = y["scale"]["domain"]
    assert "%" not in y["title"] and 0.6 < low < high < 0.95
    assert " 0.8" in chart.caption


def test_the_figure_of_another_factor_is_of_averages() -> None:
    """Markers are the table's averages; the title says what they are."""
    study = over_datasets().study()
    _, chart = factor_charts(study, "harmonic_mean")
    (means,) = [one for one in chart.spec["layer"] if one.get("name") == "means"]
    table = build_tables(study)[0]
    expected = [row.cells["average/harmonic_mean"].estimate.mean for row in table.rows[:3]]
    assert [one["y"] for one in means["data"]["values"]] == pytest.approx(expected)
    assert "average over 3 datasets" in chart.spec["title"][0]
