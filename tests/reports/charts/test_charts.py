"""Charts have the numbers of the analysis and link to the runs in MLflow.

Tests in other files do not draw images.
"""

import io
import json
from pathlib import Path
from typing import Any

import altair
import pytest
from PIL import Image

from harness.store import get_run_address, get_runs_address
from reports.charts import (
    Chart,
    adapt_style_to_page,
    make_factor_chart,
    make_page_script,
    make_study_charts,
    render_chart,
)
from reports.report import make_report
from tests.reports import cases
from tests.reports.analysis.planted import METRIC, make_planted_grid, make_planted_sample
from tests.reports.analysis.test_curves import add_curves
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores
from tests.reports.pages import check_golden, round_numbers
from tests.reports.studies import (
    make_collapsing_study,
    make_cross_dataset_study,
    make_factors,
    make_multi_dataset_study,
    make_one_factor_study,
)
from tests.reports.yaml_studies import load_yaml_study


def make_charts(builder: StoreBuilder, metric: str | None = None) -> dict[str, Chart]:
    """Return a study's charts by name."""
    charts = make_study_charts(make_report(builder.make_study(), metric))
    assert len({chart.name for chart in charts}) == len(charts)
    return {chart.name: chart for chart in charts}


def make_two_factor_study() -> StoreBuilder:
    """Build a 2 by 3 grid with an effect of the first factor and an interaction, and a control."""
    builder = make_planted_grid((2, 3), lambda s: 3.0 * s["f0"] + s["f1"] * s["f0"])
    return builder.add_run({}, {s: make_scores(60.0) for s in builder.seeds}, control="zero_shot")


def make_random_study() -> StoreBuilder:
    """Build a study of configurations that are drawn from two ranges."""
    return make_planted_sample(2, 24, lambda s: 4.0 * s["x0"])


def make_range_study(n_values: int = 20) -> StoreBuilder:
    """Build a study of values from one range. The default is more than a chart shows as levels."""
    factors = [{"key": "generator.n_ctx", "levels": None, "log": True, "baseline": None}]
    values = {0.01 * 1.4**i: 50.0 + i for i in range(n_values)}
    return make_one_factor_study(values, factors=factors, sampler="random", n_trials=20)


# One study per kind of chart.
STUDIES = {
    "one-factor": make_prompt_len,
    "grid": make_two_factor_study,
    "sampled": make_random_study,
    "datasets": make_multi_dataset_study,
    "cross": make_cross_dataset_study,
    "quality": make_collapsing_study,
}
FURTHER_STUDIES = {
    "uneven-levels": lambda: make_one_factor_study(dict.fromkeys((0, 1, 2, 4, 24), 55.0), log=True),
    "logarithmic": make_range_study,
    "few-of-a-range": lambda: make_range_study(3),
    "one-seed": lambda: make_one_factor_study({2: 55.0, 4: 55.0}, seeds=1),
    "costly": lambda: load_yaml_study("costly"),
    "correlated-quality": cases.make_correlated_quality,
}


@pytest.mark.parametrize("name", [*STUDIES, *FURTHER_STUDIES])
def test_charts_equal_the_committed_ones(name: str) -> None:
    """Altair accepts each specification, and each has a description for screen readers."""
    charts = make_charts((STUDIES | FURTHER_STUDIES)[name]())
    assert charts
    for chart in charts.values():
        altair.Chart.from_dict(adapt_style_to_page(chart.spec))
        assert chart.spec["description"] == chart.caption and chart.caption.endswith(".")
    specs = {name: chart.spec for name, chart in charts.items()}
    text = round_numbers(json.dumps(specs, ensure_ascii=False).replace("}, {", "},\n{"))
    check_golden(Path(__file__).parent / "golden" / f"{name}.json", text)


def test_each_configuration_with_a_logged_objective_has_a_curve() -> None:
    """Configurations without one have no curve."""
    logged = {f"run{i}": [50.0 + i, 51.0 + i, 52.0 + i] for i in range(5)}
    report = make_report(add_curves(make_planted_grid((5,), lambda s: 5.0 * s["f0"], 2), logged))
    charts = {chart.name: chart for chart in make_study_charts(report)}
    curve = read_values(charts["curves"], "curves")
    assert len(curve) == 15 and {point["y"] for point in curve} == {50.0 + i for i in range(7)}


def find_layer(chart: Chart, name: str) -> dict[str, Any]:
    """Return the layer with this name."""
    (match,) = [layer_spec for layer_spec in chart.spec["layer"] if layer_spec.get("name") == name]
    return dict(match)


def read_values(chart: Chart, name: str) -> list[dict[str, Any]]:
    """Return the data of a layer. The layers of a chart may share its data."""
    return list(find_layer(chart, name).get("data", chart.spec.get("data"))["values"])


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("sqlite:////x/mlflow.db", "http://127.0.0.1:5000"),
        ("https://me:secret@host:8/ml/?token=x", "https://host:8/ml"),
    ],
)
def test_the_address_of_a_run_has_no_secret(uri: str, base: str) -> None:
    """A run has its address in MLflow's UI, and an invalid run ID has none."""
    runs = get_runs_address(uri, "7")
    assert (
        get_run_address(runs, "ab12")
        == f"{base}/#/experiments/7/runs/ab12?workflowType=machine_learning"
    )
    assert get_run_address(runs, "javascript:alert(1)") == get_run_address("", "ab12") == ""


def test_controls_are_drawn_at_the_levels_that_they_read() -> None:
    """In the figure of the learning rate, the fine-tuner alone has a mean at each rate."""
    low, high = sum((50.0, 52.1, 54.2)) / 3, sum((62.0, 64.3, 66.1)) / 3
    charts = make_charts(load_yaml_study("tuned"), "new")
    average = (low + high) / 2
    expected = {"finetuner.lr": (low, high), "generator.n_ctx": (average, average)}
    for name, means in expected.items():
        points = read_values(charts[name], "matched")
        heights = [point["y"] for point in points if "fine-tuner alone" in point["control"]]
        assert heights == pytest.approx(means)
        controls = {point["control"] for point in read_values(charts[name], "controls")}
        assert all(control.endswith(" at the baseline") for control in controls)


def test_dots_link_to_their_runs(store_uri: str) -> None:
    """A click on a seed opens the run that measured it."""
    from reports.study import load_records

    study = load_records("prompt_len", make_prompt_len().write(store_uri))
    (chart,) = make_factor_chart(study, study.factors[0], "harmonic_mean")
    runs = {dot["run"] for dot in read_values(chart, "seeds")}
    run_ids = study.rows.filter(study.rows["control"] == "")["run_id"].unique().to_list()
    assert runs == set(run_ids) and find_layer(chart, "seeds")["encoding"]["href"] == {
        "field": "href"
    }
    (transform,) = find_layer(chart, "seeds")["transform"]
    assert f'"{study.runs_address}" + datum.run' in transform["calculate"]


UNUSUAL_LEVELS = (
    "\x1b[2J",
    "\x00",
    "\ufffe",
    "𝕏",
    "</text>",
    "a" * 500,
    "constructor",
    "__proto__",
)


@pytest.mark.slow
def test_each_kind_of_chart_is_drawn_with_any_characters() -> None:
    """Characters that are invalid in XML would end the process without an exception."""
    builder = StoreBuilder(
        name="odd", factors=make_factors("finetuner", ["coop", *UNUSUAL_LEVELS], "coop")
    )
    for level in ("coop", *UNUSUAL_LEVELS):
        builder.add_run({"finetuner": level}, {s: make_scores(55.0 + s) for s in range(2)})
    charts = [*make_charts(builder).values()]
    for make_study in STUDIES.values():
        charts += make_charts(make_study()).values()
    first_of_kind = {chart.name.split("-")[0]: chart for chart in reversed(charts)}
    for chart in (charts[0], *first_of_kind.values()):
        assert all(render_chart(chart).values())


def test_the_page_script_sets_vega_embed() -> None:
    """The bundle of vl-convert defines window.vegaEmbed."""
    assert "window.vegaEmbed=" in make_page_script()


def test_exported_charts_have_a_columns_width_and_embedded_fonts() -> None:
    """No font is of Type 3, and PNG files are the same every time."""
    study = make_prompt_len().make_study()
    (chart,) = make_factor_chart(study, study.factors[0], "harmonic_mean")
    first, second = render_chart(chart), render_chart(chart)
    assert first["png"] == second["png"]
    image = Image.open(io.BytesIO(first["png"]))
    assert image.width == pytest.approx(4 * 3.3 * 72, abs=4)
    assert first["pdf"].startswith(b"%PDF") and b"/Font" in first["pdf"]
    assert b"/Type3" not in first["pdf"]
    assert b"<svg" in first["svg"] and b"<script" not in first["svg"]


def test_intervals_beyond_the_frame_end_in_arrow_heads() -> None:
    """The interval of two seeds is large, so the dots set the frame, and cut ends are marked."""
    study = make_one_factor_study({1: 50.0, 2: 51.0}).make_study()
    (chart,) = make_factor_chart(study, study.factors[0], METRIC)
    low, high = find_layer(chart, "means")["encoding"]["y"]["scale"]["domain"]
    for end, frame in {"low": low, "high": high}.items():
        assert [head["frame"] for head in read_values(chart, f"{end} cut")] == [frame] * 2
    assert "Arrowheads mark intervals that extend beyond the frame." in chart.caption
    study = make_one_factor_study({1: 50.0, 2: 51.0}, seeds=5).make_study()
    (uncut_chart,) = make_factor_chart(study, study.factors[0], METRIC)
    assert not [spec for spec in uncut_chart.spec["layer"] if "cut" in spec.get("name", "")]
