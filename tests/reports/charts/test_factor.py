"""Charts of a factor: what is drawn is what the table says, and a chart says what it must."""

import io
import json
from collections.abc import Callable
from typing import Any

import altair
import pytest
from PIL import Image

from reports.charts import Chart, as_json, chart_bytes, factor_chart, factor_charts, for_page
from reports.read.addresses import run_address, runs_address
from reports.report import make_report
from reports.tables.build import build_tables
from tests.reports.analysis.planted import grid
from tests.reports.builder import scores
from tests.reports.studies import collapsing, over_datasets

Build = Callable[..., Any]
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
    """The data of a layer."""
    return list(layer(chart, name)["data"]["values"])


def legend(chart: Chart) -> list[str]:
    """The reference arms' words, as the legend has them."""
    return list(layer(chart, "arms")["encoding"]["color"]["scale"]["domain"])


def test_means_intervals_and_dots_are_the_tables(packaged: Build) -> None:
    """Markers, intervals and dots hold exactly the numbers of the ablation table."""
    builder = packaged()
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


def test_specifications_are_vega_lite() -> None:
    """altair, which knows the schema, takes every chart, for the page as it is."""
    for chart in factor_charts(over_datasets().study(), "harmonic_mean"):
        altair.Chart.from_dict(for_page(chart.spec))
        assert chart.spec["description"] == chart.caption != ""


def test_arms_are_lines_or_named_as_beyond(packaged: Build) -> None:
    """Near arms are lines at their mean; a far one is named in the legend."""
    builder = packaged()
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
def test_every_level_has_its_label(build: Build, percentages: Build, levels: list[float]) -> None:
    """Levels stand at equal distances in their order, so that 0, 1 and 2 beside 24 can be read."""
    factors = [{"key": N_CTX, "levels": levels, "log": True, "baseline": levels[0]}]
    builder = build(factors=factors, seeds=(0, 1))
    for level in levels:
        builder.trial({N_CTX: level}, {s: percentages(55.0 + s) for s in range(2)})
    x = layer(draw(builder), "seeds")["encoding"]["x"]
    assert x["type"] == "ordinal" and list(map(float, x["sort"])) == levels


@pytest.mark.parametrize(("log", "least", "scale"), [
    (True, 0.01, "log"), (False, 0.01, "linear"), (True, 0.0, "linear")
])  # fmt: skip
def test_a_range_has_a_continuous_axis(
    build: Build, percentages: Build, log: bool, least: float, scale: str
) -> None:
    """More values than levels can be: a logarithmic axis where the factor is and none is 0."""
    factors = [{"key": N_CTX, "levels": None, "log": log, "baseline": None}]
    builder = build(factors=factors, sampler="random", trials=20, seeds=(0, 1))
    for place in range(20):
        value = least if place == 0 else 0.01 * 1.4**place
        builder.trial({N_CTX: value}, {s: percentages(50.0 + place + s) for s in range(2)})
    x = layer(draw(builder), "seeds")["encoding"]["x"]
    assert (x["type"], x["scale"]["type"]) == ("quantitative", scale)


def test_categories_are_not_joined(build: Build, percentages: Build) -> None:
    """Names stand in the study's order, and no line leads from one to another."""
    levels = ["tip_adapter", "coop"]
    factors = [{"key": "finetuner", "levels": levels, "log": False, "baseline": "coop"}]
    builder = build(factors=factors, seeds=(0, 1))
    for name in levels:
        builder.trial({"finetuner": name}, {s: percentages(55.0 + s) for s in range(2)})
    chart = draw(builder)
    assert layer(chart, "seeds")["encoding"]["x"]["sort"] == levels
    assert not [one for one in chart.spec["layer"] if one["mark"]["type"] == "line"]
    assert [one for one in draw_numbers(build, percentages) if one["mark"]["type"] == "line"]


def draw_numbers(build: Build, percentages: Build) -> list[dict[str, Any]]:
    """The layers of a chart of two numbers."""
    builder = build(seeds=(0, 1))
    for n_ctx in (2, 4):
        builder.trial({N_CTX: n_ctx}, {s: percentages(55.0 + s) for s in (0, 1)})
    return list(draw(builder).spec["layer"])


def test_one_seed_has_a_mark_and_no_interval(build: Build, percentages: Build) -> None:
    """Without an interval none is drawn."""
    builder = build(seeds=(0,))
    for n_ctx in (2, 4):
        builder.trial({N_CTX: n_ctx}, {0: percentages(55.0)})
    chart = draw(builder)
    assert len(values(chart, "means")) == 2 and values(chart, "intervals") == []


def test_sampled_study_shows_settings_and_no_level_means(build: Build, percentages: Build) -> None:
    """Where a sampler chose the other factors, a level's mean would mean nothing."""
    factors = [
        {"key": "generator.kl_weight", "levels": None, "log": True, "baseline": None},
        {"key": N_CTX, "levels": [1, 2], "log": False, "baseline": 1},
    ]
    builder = build(factors=factors, sampler="tpe", trials=6, seeds=(0, 1))
    for place in range(6):
        assignment = {"generator.kl_weight": 0.01 * 2**place, N_CTX: 1 + place % 2}
        builder.trial(assignment, {s: percentages(50.0 + place + s) for s in range(2)})
    chart = draw(builder, 1)
    assert len(values(chart, "seeds")) == 6
    assert not [one for one in chart.spec["layer"] if one.get("name") == "means"]
    assert "each dot one setting" in chart.spec["title"][0]


@pytest.mark.parametrize("selection", ["test", "pseudo_new"])
def test_title_carries_the_warnings(packaged: Build, selection: str) -> None:
    """A picture travels without its table, so it says so itself."""
    title = " ".join(draw(packaged(selection=selection)).spec["title"])
    assert ("selected on test" in title) == (selection == "test")
    assert "demonstration backbone" in title


def test_nothing_finished_is_no_chart(build: Build) -> None:
    """A study without a number has no chart."""
    study = build(seeds=(0,)).trial({N_CTX: 4}, {0: {}}, state="FAIL").study()
    assert factor_chart(study, study.factors[0], "harmonic_mean") is None


def test_files(packaged: Build) -> None:
    """A paper's column wide, fonts embedded and none of Type 3; PNG and SVG alike every time."""
    chart = draw(packaged())
    first, second = chart_bytes(chart), chart_bytes(chart)
    assert (first["png"], first["svg"]) == (second["png"], second["svg"])
    assert b"/FontFile" in first["pdf"] or b"/Font" in first["pdf"]
    picture = Image.open(io.BytesIO(first["png"]))
    assert picture.width == pytest.approx(4 * 3.3 * 72, abs=4)
    assert first["pdf"].startswith(b"%PDF") and b"/Type3" not in first["pdf"]
    assert b"<svg" in first["svg"] and b"<script" not in first["svg"]
    wide = Image.open(io.BytesIO(chart_bytes(chart, 6.9)["png"]))
    assert wide.width == pytest.approx(4 * 6.9 * 72, abs=4)


def test_json_cannot_end_its_script() -> None:
    """A level that is an end tag is data, and comes back whole."""
    text = as_json({"level": "</script><b>", "line": "\u2028"})
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"level": "</script><b>", "line": "\u2028"}


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


def test_dots_lead_to_their_runs(packaged: Build, store_uri: str) -> None:
    """A click on a seed opens the run that measured it."""
    from reports.read import load_records

    study = load_records("prompt_len", packaged().write(store_uri))
    chart = factor_chart(study, study.factors[0], "harmonic_mean")
    assert chart is not None
    runs = {dot["run"] for dot in values(chart, "seeds")}
    own = study.rows.filter(study.rows["arm"] == "")["run_id"].unique().to_list()
    assert runs == set(own) and layer(chart, "seeds")["encoding"]["href"] == {"field": "href"}
    (made,) = layer(chart, "seeds")["transform"]
    assert f'"{study.runs_address}" + datum.run' in made["calculate"]


@pytest.mark.parametrize(
    "level", ["\x1b[2J", "\x00", "\ufffe", "𝕏", "</text>", "a" * 5000, "constructor", "__proto__"]
)
def test_a_level_of_any_characters_is_drawn(build: Build, percentages: Build, level: str) -> None:
    """What XML cannot hold is replaced: drawing it would end the process, not raise."""
    factors = [{"key": "finetuner", "levels": ["coop", level], "log": False, "baseline": "coop"}]
    builder = build(factors=factors, seeds=(0, 1))
    for name in ("coop", level):
        builder.trial({"finetuner": name}, {s: percentages(55.0 + s) for s in range(2)})
    drawn = chart_bytes(draw(builder))
    assert set(drawn) == {"png", "svg", "pdf"} and all(drawn.values())


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
