"""Tables: rows of a mean, comparisons and warnings, for studies of all protocols."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from harness.store import FLAGS
from reports.errors import ReportError
from reports.report import make_report
from reports.stats import adjust_by_holm, compute_minimum_detectable
from reports.tables import build_tables
from reports.tables.group import Group
from reports.tables.metric import resolve_metric
from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores
from tests.reports.studies import (
    SEEDS,
    make_collapsing_study,
    make_cross_dataset_study,
    make_factors,
    make_few_shot_study,
    make_multi_dataset_study,
    make_one_factor_study,
)
from tests.reports.tables.cells import find_row, iterate_numbers
from tests.reports.yaml_studies import load_yaml_study

N_CTX = "generator.n_ctx"


def test_a_table_is_one_family() -> None:
    """Holm and the minimum detectable effect count levels and controls together."""
    study = make_prompt_len().make_study()
    table, *_ = build_tables(study)
    rows = study.rows
    base = rows.filter(rows[N_CTX] == 4)["test/harmonic_mean"].to_numpy()
    controls = ("zero_shot", "no_synthetic", "text_feature", "real_images")
    compared = [rows.filter(rows[N_CTX] == n) for n in (1, 2, 8, 16)]
    compared += [rows.filter(rows["control"] == control) for control in controls]
    values = [rows_of_level["test/harmonic_mean"].to_numpy() for rows_of_level in compared]
    raw = [reference.ttest_rel(value, base).pvalue for value in values]
    row_cells = [row.cells for row in table.rows if not row.is_baseline]
    assert [cells["p"].p for cells in row_cells] == pytest.approx(adjust_by_holm(raw))
    for cells, value in zip(row_cells, values, strict=True):
        expected = compute_minimum_detectable(float(np.std(value - base, ddof=1)), 5, 8)
        assert cells["mde"].number == pytest.approx(expected)
    assert any("Holm-corrected over the table (comparisons: 8)" in note for note in table.notes)


def test_the_order_of_runs_does_not_matter() -> None:
    """The same runs in another order give the same table."""
    first, second = make_prompt_len(), make_prompt_len()
    second.runs.reverse()
    second.planned.reverse()
    assert build_tables(first.make_study()) == build_tables(second.make_study())


@pytest.mark.parametrize("level", ["4", "8"])
def test_a_control_that_is_a_configuration_is_compared_once(level: str) -> None:
    """Holm's correction counts the control and the configuration as one comparison."""
    builder = make_prompt_len()
    builder.planned = [w for w in builder.planned if w["control"] != "text_feature"]
    without, *_ = build_tables(builder.make_study())
    builder.add_planned({}, control="text_feature", key=f'{{"generator.n_ctx": {level}}}')
    table, *_ = build_tables(builder.make_study())
    control, configuration = find_row(table, "text feature"), find_row(table, level)
    assert control.comparison == configuration.comparison and (
        configuration.comparison is None
    ) == (level == "4")
    assert control.cells["harmonic_mean"] == configuration.cells["harmonic_mean"]
    assert [row for row in table.rows if row is not control] == list(without.rows)
    notes, notes_before = (
        [note for note in t.notes if "comparisons:" in note] for t in (table, without)
    )
    assert notes == notes_before


STUDY_KINDS: dict[str, Callable[[], StoreBuilder]] = {
    "levels": make_prompt_len,
    "grid": lambda: load_yaml_study("grid"),
    "sampled": lambda: load_yaml_study("sampled"),
    "datasets": make_multi_dataset_study,
    "few shot": make_few_shot_study,
}


@pytest.mark.parametrize("kind", STUDY_KINDS)
def test_every_table_warns_of_selection_on_test_images(kind: str) -> None:
    """Title, footnote and rows have the warning, and analyses have it in the title."""
    builder = STUDY_KINDS[kind]()
    for run in builder.runs:
        run.tags["ship.selection"] = "test"
    report = make_report(builder.make_study())
    for table in (table for table in report.all_tables if table.place != "csv"):
        assert table.title.endswith("(selected on test)")
    for table in (table for table in report.tables if table.place != "csv"):
        assert table.notes[0].startswith("selected on test")
        assert {row.selection for row in table.rows} == {"test"}


def test_no_number_is_nan() -> None:
    """All numbers of all tables are finite, although runs logged NaN and infinity."""
    invalid = make_prompt_len()
    for run in invalid.runs[::2]:
        run.metrics["test/new/seed_1"] = math.nan
        run.metrics["selection/harmonic_mean/seed_2"] = math.inf
        run.metrics["trial/seconds"] = math.nan
    for builder in (invalid, load_yaml_study("grid"), load_yaml_study("sampled")):
        tables = build_tables(builder.make_study())
        values = [value for table in tables for value in iterate_numbers(table)]
        assert values
        assert all(map(math.isfinite, values))


@pytest.mark.parametrize(
    ("builder", "metric", "choices"),
    [
        (make_few_shot_study(), "new", "accuracy"),
        (make_collapsing_study(), "quality/beauty", ".*ausuc.*quality/mmd"),
    ],
)
def test_an_unknown_metric_is_a_one_line_error_with_the_choices(
    builder: Any, metric: str, choices: str
) -> None:
    """The choices are the metrics of the study's protocol."""
    with pytest.raises(ReportError, match=rf"no test metric '{metric}'; choices: {choices}"):
        build_tables(builder.make_study(), metric)


def test_a_metric_may_be_named_by_its_heading() -> None:
    """Headings may be in upper or lower case."""
    study = make_few_shot_study().make_study()
    heading = study.protocol.headings["accuracy"].upper()
    assert build_tables(study, heading) == build_tables(study, "accuracy")
    assert resolve_metric(make_collapsing_study().make_study(), "h")[1] == "harmonic_mean"


@pytest.mark.parametrize(
    ("builder", "name"),
    [
        (make_few_shot_study(), "accuracy"),
        (make_cross_dataset_study(), "accuracy"),
        (make_collapsing_study(), "unseen"),
    ],
)
def test_complete_without_the_protocols_metric_is_a_failure(builder: Any, name: str) -> None:
    """The protocol defines the metrics that a finished seed needs."""
    del builder.runs[0].metrics[f"test/{name}/seed_1"]
    rows = builder.make_study().rows
    failed = rows.filter(rows["state"] == "FAIL")
    assert failed["seed"].to_list() == [1]
    assert failed["reason"].to_list() == [f"no finite test/{name} logged"]


@pytest.mark.parametrize(
    ("n_runs", "protocol", "message"),
    [
        (9, "open_set", r"ship\.protocol\), one of base_to_new.*; got open_set"),
        (1, "few_shot", r"must have the same protocol .*; got base_to_new, few_shot"),
    ],
)
def test_unknown_and_mixed_protocols_are_one_line_errors(
    n_runs: int, protocol: str, message: str
) -> None:
    """A newer version may have other protocols, and all runs of a study need the same one."""
    builder = make_prompt_len()
    for run in builder.runs[:n_runs]:
        run.tags["ship.protocol"] = protocol
    with pytest.raises(ReportError, match=message):
        builder.make_study()


@pytest.mark.parametrize(("params", "is_flagged"), load_cases(__file__, "flags.yaml"))
def test_configurations_equal_to_a_control_have_no_diversity_flag(
    params: dict[str, str], is_flagged: bool
) -> None:
    """Features without diversity by design lose the flag diversity_collapse and no other one."""
    builder = StoreBuilder(name="gen", factors=make_factors("generator", ["one", "vae"], "vae"))
    results = {s: make_scores(50.0 + s) for s in SEEDS}
    builder.add_run(
        {"generator": "one"}, results, flags={"diversity_collapse": SEEDS, "mean_gap": SEEDS}
    )
    builder.add_run({"generator": "vae"}, results)
    builder.runs[0].params.update(params)
    table, *_ = build_tables(builder.make_study())
    raised = {flag.name for flag in find_row(table, "one").flags}
    assert raised == ({"diversity_collapse", "mean_gap"} if is_flagged else {"mean_gap"})


def test_the_reason_of_failures_is_next_to_their_number() -> None:
    """The number of missing results follows without this reason."""
    builder = make_one_factor_study({1: 50.0, 2: 52.0})
    builder.add_run({N_CTX: 3}, {0: {}}, state="FAIL", reason="worker died")
    builder.add_planned({N_CTX: 4})
    (note,) = [note for note in build_tables(builder.make_study())[0].notes if "not in any" in note]
    assert note == "not in any mean: 1 failed (worker died), 3 missing"


def test_a_group_without_rows_has_no_flags() -> None:
    """The group of all rows of a study is empty if nothing is planned."""
    assert Group((), []).flags() == ()


def test_footnotes_give_the_thresholds_of_the_method() -> None:
    """The texts of the flags agree with the numbers at which the method raises them."""
    flags = pytest.importorskip("ship.quality")
    vae = pytest.importorskip("ship.generators.vae")
    assert flags.COLLAPSED_FRACTION == 0.1 and "a tenth" in FLAGS["diversity_collapse"][1]
    assert f"{flags.GAP_MARGIN} in cosine" in FLAGS["mean_gap"][1]
    assert f"above {vae.ACTIVE_VARIANCE}" in FLAGS["posterior_collapse"][1]
