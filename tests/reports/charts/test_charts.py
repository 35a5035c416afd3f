"""Charts have the numbers of the analysis and link to the runs in MLflow.

Only this file draws their images.
"""

import io
import json
from pathlib import Path
from typing import Any

import altair
import pytest
from PIL import Image

from harness.store import get_runs_address, run_address
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
from tests.reports.analysis.planted import METRIC, drawn, grid
from tests.reports.analysis.test_curves import with_curves
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.listed import listed
from tests.reports.pages import check_golden, shortened
from tests.reports.studies import (
    collapsing,
    cross_dataset,
    leveled,
    one_factor,
    over_datasets,
)


def charts_of(builder: StoreBuilder, metric: str | None = None) -> dict[str, Chart]:
    """A study's charts by name."""
    charts = make_study_charts(make_report(builder.study(), metric))
    assert len({chart.name for chart in charts}) == len(charts)
    return {chart.name: chart for chart in charts}


def two_factors() -> StoreBuilder:
    """A grid of 2 by 3 with an effect of the first factor, and an arm at one setting."""
    builder = grid((2, 3), lambda s: 3.0 * s["f0"] + s["f1"] * s["f0"])
    return builder.trial({}, {s: scores(60.0) for s in builder.seeds}, control="zero_shot")


def sampled() -> StoreBuilder:
    """Settings that were drawn from ranges."""
    return drawn(2, 24, lambda s: 4.0 * s["x0"])


def ranged(count: int = 20) -> StoreBuilder:
    """Return a study of so many values of a range; by default more than levels can be."""
    factors = [{"key": "generator.n_ctx", "levels": None, "log": True, "baseline": None}]
    values = {0.01 * 1.4**place: 50.0 + place for place in range(count)}
    return leveled(values, factors=factors, sampler="random", n_trials=20)


STUDIES = {
    "one-factor": prompt_len, "grid": two_factors, "sampled": sampled, "datasets": over_datasets,
    "cross": cross_dataset, "quality": collapsing,
}  # fmt: skip
MORE = {
    "uneven-levels": lambda: leveled(dict.fromkeys((0, 1, 2, 4, 24), 55.0), log=True),
    "logarithmic": ranged,
    "few-of-a-range": lambda: ranged(3),
    "one-seed": lambda: leveled({2: 55.0, 4: 55.0}, seeds=1),
    "costly": lambda: listed("costly"),
    "quality-followed": cases.quality_followed,
}


@pytest.mark.parametrize("name", [*STUDIES, *MORE])
def test_charts_equal_the_committed_ones(name: str) -> None:
    """Altair accepts each specification, and each has a description for screen readers."""
    charts = charts_of((STUDIES | MORE)[name]())
    assert charts
    for chart in charts.values():
        altair.Chart.from_dict(adapt_style_to_page(chart.spec))
        assert chart.spec["description"] == chart.caption and chart.caption.endswith(".")
    drawn = {key: any_chart.spec for key, any_chart in charts.items()}
    text = shortened(json.dumps(drawn, ensure_ascii=False).replace("}, {", "},\n{"))
    check_golden(Path(__file__).parent / "golden" / f"{name}.json", text)


def test_each_configuration_with_a_logged_objective_has_a_curve() -> None:
    """Configurations without one have no curve."""
    logged = {f"run{i}": [50.0 + i, 51.0 + i, 52.0 + i] for i in range(5)}
    report = make_report(with_curves(grid((5,), lambda s: 5.0 * s["f0"], 2), logged))
    charts = {chart.name: chart for chart in make_study_charts(report)}
    curve = values(charts["curves"], "curves")
    assert len(curve) == 15 and {point["y"] for point in curve} == {50.0 + i for i in range(7)}


def layer(chart: Chart, name: str) -> dict[str, Any]:
    """The layer of that name."""
    (match,) = [layer_spec for layer_spec in chart.spec["layer"] if layer_spec.get("name") == name]
    return dict(match)


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
def test_the_address_of_a_run_has_no_secret(uri: str, base: str) -> None:
    """It is the address in MLflow's UI. An invalid run ID has no address."""
    runs = get_runs_address(uri, "7")
    assert (
        run_address(runs, "ab12")
        == f"{base}/#/experiments/7/runs/ab12?workflowType=machine_learning"
    )
    assert run_address(runs, "javascript:alert(1)") == run_address("", "ab12") == ""


def test_controls_are_drawn_at_the_levels_that_they_read() -> None:
    """In the figure of the learning rate, the fine-tuner alone has a mean at each rate."""
    low, high = sum((50.0, 52.1, 54.2)) / 3, sum((62.0, 64.3, 66.1)) / 3
    charts = charts_of(listed("tuned"), "new")
    both = (low + high) / 2
    for name, means in {"finetuner.lr": (low, high), "generator.n_ctx": (both, both)}.items():
        points = values(charts[name], "matched")
        heights = [point["y"] for point in points if "fine-tuner alone" in point["control"]]
        assert heights == pytest.approx(means)
        flat = {point["control"] for point in values(charts[name], "controls")}
        assert all(control.endswith(" at the baseline") for control in flat)


def test_dots_link_to_their_runs(store_uri: str) -> None:
    """A click on a seed opens the run that measured it."""
    from reports.study import load_records

    study = load_records("prompt_len", prompt_len().write(store_uri))
    (chart,) = make_factor_chart(study, study.factors[0], "harmonic_mean")
    runs = {dot["run"] for dot in values(chart, "seeds")}
    run_ids = study.rows.filter(study.rows["control"] == "")["run_id"].unique().to_list()
    assert runs == set(run_ids) and layer(chart, "seeds")["encoding"]["href"] == {"field": "href"}
    (transform,) = layer(chart, "seeds")["transform"]
    assert f'"{study.runs_address}" + datum.run' in transform["calculate"]


ODD = ("\x1b[2J", "\x00", "\ufffe", "𝕏", "</text>", "a" * 500, "constructor", "__proto__")


@pytest.mark.slow
def test_each_kind_of_chart_is_drawn_with_any_characters() -> None:
    """Characters that are invalid in XML would end the process without an exception."""
    builder = StoreBuilder(name="odd", factors=one_factor("finetuner", ["coop", *ODD], "coop"))
    for level in ("coop", *ODD):
        builder.trial({"finetuner": level}, {s: scores(55.0 + s) for s in range(2)})
    every = [*charts_of(builder).values()]
    for make in STUDIES.values():
        every += charts_of(make()).values()
    kinds = {chart.name.split("-")[0]: chart for chart in reversed(every)}
    for chart in (every[0], *kinds.values()):
        assert all(render_chart(chart).values())


def test_the_page_script_sets_vega_embed() -> None:
    """vl-convert's own bundle defines window.vegaEmbed."""
    assert "window.vegaEmbed=" in make_page_script()


def test_exported_charts_have_a_columns_width_and_embedded_fonts() -> None:
    """No font is of Type 3, and PNG files are the same every time."""
    study = prompt_len().study()
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
    study = leveled({1: 50.0, 2: 51.0}).study()
    (chart,) = make_factor_chart(study, study.factors[0], METRIC)
    low, high = layer(chart, "means")["encoding"]["y"]["scale"]["domain"]
    for end, frame in {"low": low, "high": high}.items():
        assert [head["frame"] for head in values(chart, f"{end} cut")] == [frame] * 2
    assert "Arrowheads mark intervals that extend beyond the frame." in chart.caption
    study = leveled({1: 50.0, 2: 51.0}, seeds=5).study()
    (whole,) = make_factor_chart(study, study.factors[0], METRIC)
    assert not [spec for spec in whole.spec["layer"] if "cut" in spec.get("name", "")]
