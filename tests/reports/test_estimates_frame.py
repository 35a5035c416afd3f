"""The frame of estimates has every number of the tables once."""

import re
from pathlib import Path
from typing import Any

import pytest

from reports.cells import Value
from reports.estimates_frame import SCHEMA, make_estimates_frame
from reports.report import make_report
from tests.reports.analysis.planted import grid, nothing
from tests.reports.builder import prompt_len
from tests.reports.listed import listed
from tests.reports.studies import leveled, over_datasets

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.mark.parametrize("study", [prompt_len(), over_datasets(), grid((2, 3), nothing)])
def test_each_row_of_estimates_has_the_numbers_of_its_table(study: Any) -> None:
    """It has the means of each metric, and the comparison in the report's metric."""
    report = make_report(study.study())
    frame = make_estimates_frame(report.all_tables)
    for table in (t for t in report.all_tables if t.kind not in ("ranks", "")):
        rows = frame.filter((frame["table"] == table.name) & (frame["metric"] == table.metric))
        compared = rows.filter(rows["difference"].is_not_null())
        lines = [row for row in table.rows if row.comparison]
        assert compared["difference"].to_list() == [
            r.comparison.difference.mean for r in lines if r.comparison
        ]
        assert compared["verdict"].to_list() == [
            r.comparison.verdict for r in lines if r.comparison
        ]
        assert rows.filter("is_baseline")["difference"].null_count() == rows["is_baseline"].sum()
        assert (rows["n"] > 0).all()


def test_a_line_has_its_difference_to_the_control_at_its_levels() -> None:
    """It equals the table's column, with the control's levels and the number of seeds."""
    report = make_report(listed("tuned").study())
    frame = make_estimates_frame(report.all_tables).filter(
        metric="harmonic_mean", table="finetuner.lr"
    )
    (table,) = [table for table in report.all_tables if table.name == "finetuner.lr"]
    cells = [row.cells["vs_no_synthetic"] for row in table.rows]
    shown = [cell.estimate for cell in cells if isinstance(cell, Value)]
    assert frame["vs_no_synthetic"].to_list() == [estimate.mean for estimate in shown]
    assert frame["vs_no_synthetic_high"].to_list() == [estimate.high for estimate in shown]
    assert frame["vs_no_synthetic_n"].to_list() == [3, 3]
    assert frame["vs_no_synthetic_at"].to_list() == ["lr 0.001", "lr 0.01"]
    assert frame["vs_text_feature"].null_count() == 0
    other = make_estimates_frame(report.all_tables).filter(table="generator.n_ctx")
    assert other["vs_no_synthetic"].null_count() == len(other)


def test_rows_of_controls_have_their_name() -> None:
    """Rows of levels have none."""
    frame = make_estimates_frame(make_report(prompt_len().study()).all_tables)
    controls = frame.filter(kind="control")
    names = {"zero_shot", "no_synthetic", "text_feature", "real_images"}
    assert set(controls["control"]) == names
    assert frame.filter(kind="levels")["control"].null_count() == len(frame.filter(kind="levels"))


def test_a_metric_may_have_a_slash() -> None:
    """A quality measure over datasets has its comparison in the row of the averages."""
    study = over_datasets(("a/b", "emoji"), ("vae", "wgan")).study()
    frame = make_estimates_frame(make_report(study, "quality/frechet").all_tables).filter(
        kind="methods"
    )
    assert {"a/b", "emoji", "average"} <= set(frame["dataset"])
    frame = frame.filter(metric="quality/frechet")
    assert frame["difference"].is_not_null().any()


def test_each_column_is_documented() -> None:
    """docs/report.md names all columns and no others, and lists the suffixes of `vs_...` once."""
    section = DOCS.read_text("utf-8").partition("## Estimates")[2]
    heads = re.findall(r"^\|(`.*?`) \|", section, re.M)
    named = [name for head in heads for name in re.findall(r"`(\w+)`", head)]
    suffixes = re.findall(r"`(_\w+)`", section)
    named += [name + suffix for name in named if name.startswith("vs_") for suffix in suffixes]
    assert sorted(named) == sorted(SCHEMA)


def test_averages_give_their_number_of_datasets() -> None:
    """If a method failed on a dataset, its mean and its difference are over the others."""
    study = over_datasets(skip={("none", "dtd"): "FAIL", ("vae", "emoji"): "FAIL"}).study()
    frame = make_estimates_frame(make_report(study).all_tables)
    rows = frame.filter(table="datasets", metric="harmonic_mean", dataset="average")
    assert rows["datasets"].to_list() == [2, 2, 3]
    assert rows["pairs_datasets"].to_list() == [None, 1, 2]


def test_levels_that_change_nothing_have_no_verdict() -> None:
    """docs/statistics.md says so."""
    frame = make_estimates_frame(
        make_report(leveled({1: 50.0, 2: 50.0, 3: 52.0}).study()).all_tables
    )
    rows = frame.filter(metric="harmonic_mean")
    assert rows["verdict"].is_null().to_list() == [True, True, False]
