"""The data frame of estimates contains every number of the tables once."""

import re
from pathlib import Path
from typing import Any

import pytest

from reports.cells import Value
from reports.estimates_frame import SCHEMA, make_estimates_frame
from reports.report import make_report
from tests.reports.analysis.planted import make_planted_grid, no_effect
from tests.reports.builder import make_prompt_len
from tests.reports.studies import make_multi_dataset_study, make_one_factor_study
from tests.reports.yaml_studies import load_yaml_study

REPORT_PAGE = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.mark.parametrize(
    "study", [make_prompt_len(), make_multi_dataset_study(), make_planted_grid((2, 3), no_effect)]
)
def test_each_row_of_estimates_has_the_numbers_of_its_table(study: Any) -> None:
    """The rows of the report's metric have the table's differences and verdicts."""
    report = make_report(study.make_study())
    frame = make_estimates_frame(report.all_tables)
    for table in (t for t in report.all_tables if t.kind not in ("ranks", "")):
        rows = frame.filter((frame["table"] == table.name) & (frame["metric"] == table.metric))
        compared = rows.filter(rows["difference"].is_not_null())
        comparisons = [row.comparison for row in table.rows if row.comparison]
        assert compared["difference"].to_list() == [c.difference.mean for c in comparisons]
        assert compared["verdict"].to_list() == [c.verdict for c in comparisons]
        assert rows.filter("is_baseline")["difference"].null_count() == rows["is_baseline"].sum()
        assert (rows["n"] > 0).all()


def test_a_row_has_its_difference_to_the_control_at_its_levels() -> None:
    """The difference equals the table's, and has the control's levels and the number of seeds."""
    report = make_report(load_yaml_study("tuned").make_study())
    frame = make_estimates_frame(report.all_tables).filter(
        metric="harmonic_mean", table="finetuner.lr"
    )
    (table,) = [table for table in report.all_tables if table.name == "finetuner.lr"]
    cells = [row.cells["vs_no_synthetic"] for row in table.rows]
    estimates = [cell.estimate for cell in cells if isinstance(cell, Value)]
    assert frame["vs_no_synthetic"].to_list() == [estimate.mean for estimate in estimates]
    assert frame["vs_no_synthetic_high"].to_list() == [estimate.high for estimate in estimates]
    assert frame["vs_no_synthetic_n"].to_list() == [3, 3]
    assert frame["vs_no_synthetic_at"].to_list() == ["lr 0.001", "lr 0.01"]
    assert frame["vs_text_feature"].null_count() == 0
    other = make_estimates_frame(report.all_tables).filter(table="generator.n_ctx")
    assert other["vs_no_synthetic"].null_count() == len(other)


def test_rows_of_controls_have_the_name_of_the_control() -> None:
    """Rows of levels have null in this column."""
    frame = make_estimates_frame(make_report(make_prompt_len().make_study()).all_tables)
    controls = frame.filter(kind="control")
    names = {"zero_shot", "no_synthetic", "text_feature", "real_images"}
    assert set(controls["control"]) == names
    assert frame.filter(kind="levels")["control"].null_count() == len(frame.filter(kind="levels"))


def test_a_metric_may_have_a_slash() -> None:
    """A quality measure over datasets has its comparison in the row of the averages."""
    study = make_multi_dataset_study(("a/b", "emoji"), ("vae", "wgan")).make_study()
    frame = make_estimates_frame(make_report(study, "quality/frechet").all_tables).filter(
        kind="methods"
    )
    assert {"a/b", "emoji", "average"} <= set(frame["dataset"])
    frame = frame.filter(metric="quality/frechet")
    assert frame["difference"].is_not_null().any()


def test_each_column_is_documented() -> None:
    """The table in docs/report.md has exactly the columns of the data frame."""
    section = REPORT_PAGE.read_text("utf-8").partition("## Estimates")[2]
    first_cells = re.findall(r"^\|(`.*?`) \|", section, re.M)
    columns = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    suffixes = re.findall(r"`(_\w+)`", section)
    columns += [name + suffix for name in columns if name.startswith("vs_") for suffix in suffixes]
    assert sorted(columns) == sorted(SCHEMA)


def test_averages_give_their_number_of_datasets() -> None:
    """If a method failed on a dataset, its mean and its difference exclude this dataset."""
    study = make_multi_dataset_study(
        skip={("none", "dtd"): "FAIL", ("vae", "emoji"): "FAIL"}
    ).make_study()
    frame = make_estimates_frame(make_report(study).all_tables)
    rows = frame.filter(table="datasets", metric="harmonic_mean", dataset="average")
    assert rows["datasets"].to_list() == [2, 2, 3]
    assert rows["pairs_datasets"].to_list() == [None, 1, 2]


def test_levels_that_change_nothing_have_no_verdict() -> None:
    """docs/statistics.md defines that levels with unchanged results get no verdict."""
    frame = make_estimates_frame(
        make_report(make_one_factor_study({1: 50.0, 2: 50.0, 3: 52.0}).make_study()).all_tables
    )
    rows = frame.filter(metric="harmonic_mean")
    assert rows["verdict"].is_null().to_list() == [True, True, False]
