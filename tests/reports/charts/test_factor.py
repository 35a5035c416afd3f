"""Charts of a factor lead to MLflow's pages of the runs."""

from typing import Any

import pytest

from reports.charts import Chart, factor_chart, study_charts
from reports.read.runs import run_address, runs_address
from reports.report import make_report
from reports.tables.model import AVERAGE, Value
from tests.reports.analysis.planted import METRIC, grid, nothing
from tests.reports.builder import prompt_len
from tests.reports.studies import over_datasets


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
    charts = {chart.name: chart for chart in study_charts(report.analysis)}
    means = {(mean["method"], mean["level"]) for mean in values(charts["dataset"], "means")}
    lines = [row for row in report.tables[0].rows if not row.arm]
    assert means == {
        (line.name, column.dataset)
        for line in lines
        for column in report.tables[0].columns
        if isinstance(line.cells.get(column.key), Value) and column.dataset not in ("", AVERAGE)
    }
    assert [mean["level"] for mean in values(charts["generator"], "means")] == ["none"]


def test_dots_lead_to_their_runs(store_uri: str) -> None:
    """A click on a seed opens the run that measured it."""
    from reports.read import load_records

    study = load_records("prompt_len", prompt_len().write(store_uri))
    (chart,) = factor_chart(study, study.factors[0], "harmonic_mean")
    runs = {dot["run"] for dot in values(chart, "seeds")}
    own = study.rows.filter(study.rows["arm"] == "")["run_id"].unique().to_list()
    assert runs == set(own) and layer(chart, "seeds")["encoding"]["href"] == {"field": "href"}
    (made,) = layer(chart, "seeds")["transform"]
    assert f'"{study.runs_address}" + datum.run' in made["calculate"]
