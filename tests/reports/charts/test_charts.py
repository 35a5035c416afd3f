"""Charts: made of the numbers that the analysis has, they lead to MLflow's pages of the runs.

Their pictures are drawn here alone.
"""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest
from PIL import Image

from harness.store import run_address, runs_address
from reports.cells import AVERAGE, Value
from reports.charts import Chart, chart_bytes, factor_chart, for_page, study_charts
from reports.charts.vega import COLOURS, named
from reports.report import make_report
from tests.reports import cases
from tests.reports.analysis.planted import METRIC, drawn, grid, nothing
from tests.reports.analysis.test_curves import with_curves
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.listed import listed
from tests.reports.pages import check_golden, shortened
from tests.reports.studies import (
    collapsing,
    cross_dataset,
    few_shot,
    leveled,
    one_factor,
    over_datasets,
)


def charts_of(builder: StoreBuilder, metric: str | None = None) -> dict[str, Chart]:
    """A study's charts by name."""
    found = study_charts(make_report(builder.study(), metric))
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
    """As they were looked at and committed.

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
    drawn = {key: one.spec for key, one in charts.items()}
    text = shortened(json.dumps(drawn, ensure_ascii=False).replace("}, {", "},\n{"))
    check_golden(Path(__file__).parent / "golden" / f"{name}.json", text)


def test_curves() -> None:
    """A curve for each setting that logged its objective."""
    logged = {f"run{i}": [50.0 + i, 51.0 + i, 52.0 + i] for i in range(5)}
    report = make_report(with_curves(grid((5,), lambda s: 5.0 * s["f0"], 2), logged))
    charts = {chart.name: chart for chart in study_charts(report)}
    curve = values(charts["curves"], "curves")
    assert len(curve) == 15 and {one["y"] for one in curve} == {50.0 + i for i in range(7)}


def layer(chart: Chart, name: str) -> dict[str, Any]:
    """The layer of that name."""
    (found,) = [one for one in chart.spec["layer"] if one.get("name") == name]
    return dict(found)


def values(chart: Chart, name: str) -> list[dict[str, Any]]:
    """The data of a layer, or of the chart where its layers share them."""
    return list(layer(chart, name).get("data", chart.spec.get("data"))["values"])


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


def test_many_dots_are_drawn_in_part() -> None:
    """Evenly over the levels, and the caption says how many of how many."""
    study = grid((600,), nothing, 2).study()
    (chart,) = factor_chart(study, study.factors[0], METRIC)
    assert len(values(chart, "seeds")) == 600
    assert " 600 of 1,200 dots are drawn, one in 2." in chart.caption


def test_over_datasets_each_method_stands_on_those_that_it_has() -> None:
    """An average has those alone that have a result on each."""
    skip = {("wgan", "dtd"): "FAIL", ("vae", "caltech101"): "MISSING"}
    report = make_report(over_datasets(skip=skip).study())
    charts = {chart.name: chart for chart in study_charts(report)}
    means = {(mean["method"], mean["level"]) for mean in values(charts["dataset"], "means")}
    lines = [row for row in report.tables[0].rows if not row.arm]
    assert means == {
        (line.name, column.dataset)
        for line in lines
        for column in report.tables[0].columns
        if isinstance(line.cells.get(column.key), Value) and column.dataset not in ("", AVERAGE)
    }
    assert [mean["level"] for mean in values(charts["generator"], "means")] == ["none"]


def test_a_caption_names_more_methods_than_a_legend() -> None:
    """Their colours are a scale, and they stand in one order on each dataset."""
    few, many = (
        charts_of(over_datasets(("emoji", "dtd"), [f"m{i}" for i in range(n)]))["dataset"].caption
        for n in (8, 9)
    )
    assert "From left" not in few
    assert many.endswith(
        " From left to right: " + ", ".join(f"generator m{i}" for i in range(9)) + "."
    )


def test_controls_are_drawn_at_the_levels_that_they_read() -> None:
    """Against the rate, or over it, the fine-tuner alone has the rates of its level's settings."""
    low, high = sum((50.0, 52.1, 54.2)) / 3, sum((62.0, 64.3, 66.1)) / 3
    charts = charts_of(listed("tuned"), "new")
    both = (low + high) / 2
    for name, means in {"finetuner.lr": (low, high), "generator.n_ctx": (both, both)}.items():
        points = values(charts[name], "matched")
        own = [point["y"] for point in points if "fine-tuner alone" in point["control"]]
        assert own == pytest.approx(means)
        flat = {point["control"] for point in values(charts[name], "controls")}
        assert all(control.endswith(" at the baseline") for control in flat)


def test_a_control_without_some_level_stays_at_the_baseline() -> None:
    """A line through some of the levels would look like all of them."""
    builder = listed("tuned")
    builder.runs[4].tags["ship.state"] = "FAIL"
    chart = charts_of(builder)["finetuner.lr"]
    flat = [point["control"] for point in values(chart, "controls")]
    assert any("fine-tuner alone" in control and "baseline" in control for control in flat)


def lab(colour: str) -> Any:
    """CIE L*a*b* of a colour of sRGB."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_no_two_levels_have_one_colour() -> None:
    """Few have colours that are far apart (two blues are 26), and many a scale."""
    pairs = itertools.combinations(map(lab, COLOURS), 2)
    assert min(float(np.linalg.norm(one - other)) for one, other in pairs) > 30
    names = [f"n{i}" for i in range(len(COLOURS) + 1)]
    assert len(named("label", names[1:])["scale"]["range"]) == len(COLOURS)
    assert named("label", names)["scale"]["domain"] == names


def test_dots_lead_to_their_runs(store_uri: str) -> None:
    """A click on a seed opens the run that measured it."""
    from reports.study import load_records

    study = load_records("prompt_len", prompt_len().write(store_uri))
    (chart,) = factor_chart(study, study.factors[0], "harmonic_mean")
    runs = {dot["run"] for dot in values(chart, "seeds")}
    own = study.rows.filter(study.rows["arm"] == "")["run_id"].unique().to_list()
    assert runs == set(own) and layer(chart, "seeds")["encoding"]["href"] == {"field": "href"}
    (made,) = layer(chart, "seeds")["transform"]
    assert f'"{study.runs_address}" + datum.run' in made["calculate"]


ODD = ("\x1b[2J", "\x00", "\ufffe", "𝕏", "</text>", "a" * 500, "constructor", "__proto__")


def test_one_chart_of_each_kind_is_drawn() -> None:
    """Of levels of any characters, too: what XML cannot hold would end the process, not raise."""
    builder = StoreBuilder(name="odd", factors=one_factor("finetuner", ["coop", *ODD], "coop"))
    for level in ("coop", *ODD):
        builder.trial({"finetuner": level}, {s: scores(55.0 + s) for s in range(2)})
    every = [*charts_of(builder).values()]
    for make in STUDIES.values():
        every += charts_of(make()).values()
    kinds = {chart.name.split("-")[0]: chart for chart in reversed(every)}
    for chart in (every[0], *kinds.values()):
        assert all(chart_bytes(chart).values())


def test_files() -> None:
    """A paper's column wide, fonts embedded and none of Type 3; PNG alike every time."""
    study = prompt_len().study()
    (chart,) = factor_chart(study, study.factors[0], "harmonic_mean")
    first, second = chart_bytes(chart), chart_bytes(chart)
    assert first["png"] == second["png"]
    picture = Image.open(io.BytesIO(first["png"]))
    assert picture.width == pytest.approx(4 * 3.3 * 72, abs=4)
    assert first["pdf"].startswith(b"%PDF") and b"/Font" in first["pdf"]
    assert b"/Type3" not in first["pdf"]
    assert b"<svg" in first["svg"] and b"<script" not in first["svg"]


def test_intervals_beyond_the_frame_end_in_arrow_heads() -> None:
    """Two seeds' interval is vast: the dots decide the frame, and its cut ends are marked."""
    study = leveled({1: 50.0, 2: 51.0}).study()
    (chart,) = factor_chart(study, study.factors[0], METRIC)
    low, high = layer(chart, "means")["encoding"]["y"]["scale"]["domain"]
    for end, frame in {"low": low, "high": high}.items():
        assert [head["frame"] for head in values(chart, f"{end} cut")] == [frame] * 2
    assert "Arrow heads: the interval goes beyond the frame." in chart.caption
    study = leveled({1: 50.0, 2: 51.0}, seeds=5).study()
    (whole,) = factor_chart(study, study.factors[0], METRIC)
    assert not [one for one in whole.spec["layer"] if "cut" in one.get("name", "")]
