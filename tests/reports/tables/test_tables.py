"""Tables: which rows enter a mean, what is compared, and which warnings each table has.

The studies have several factors, each protocol, and flags.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from harness.store import FLAGS
from reports.errors import ReportError
from reports.report import make_report
from reports.stats import compute_minimum_detectable, holm
from reports.tables import build_tables
from reports.tables.group import Group
from reports.tables.metric import resolve_metric
from tests.case_files import load_cases
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.listed import listed
from tests.reports.studies import (
    SEEDS,
    collapsing,
    cross_dataset,
    few_shot,
    leveled,
    one_factor,
    over_datasets,
)
from tests.reports.tables.cells import cells_of, numbers

N_CTX = "generator.n_ctx"


def test_a_table_is_one_family() -> None:
    """Holm and the minimum detectable effect count levels and controls together."""
    study = prompt_len().study()
    table, *_ = build_tables(study)
    rows = study.rows
    base = rows.filter(rows[N_CTX] == 4)["test/harmonic_mean"].to_numpy()
    controls = ("zero_shot", "no_synthetic", "text_feature", "real_images")
    compared = [rows.filter(rows[N_CTX] == n) for n in (1, 2, 8, 16)]
    compared += [rows.filter(rows["control"] == control) for control in controls]
    values = [part["test/harmonic_mean"].to_numpy() for part in compared]
    raw = [reference.ttest_rel(value, base).pvalue for value in values]
    row_cells = [row.cells for row in table.rows if not row.is_baseline]
    assert [cells["p"].p for cells in row_cells] == pytest.approx(holm(raw))
    for cells, value in zip(row_cells, values, strict=True):
        expected = compute_minimum_detectable(float(np.std(value - base, ddof=1)), 5, 8)
        assert cells["mde"].number == pytest.approx(expected)
    assert any("Holm-corrected over the table (comparisons: 8)" in note for note in table.notes)


def test_the_order_of_runs_does_not_matter() -> None:
    """The same runs in another order give the same table."""
    first, second = prompt_len(), prompt_len()
    second.runs.reverse()
    second.wanted.reverse()
    assert build_tables(first.study()) == build_tables(second.study())


@pytest.mark.parametrize("level", ["4", "8"])
def test_a_control_that_is_a_configuration_is_compared_once(level: str) -> None:
    """It has the configuration's results, or is the baseline, and Holm counts it once."""
    builder = prompt_len()
    builder.wanted = [w for w in builder.wanted if w["control"] != "text_feature"]
    without, *_ = build_tables(builder.study())
    builder.want({}, control="text_feature", key=f'{{"generator.n_ctx": {level}}}')
    table, *_ = build_tables(builder.study())
    control, configuration = cells_of(table, "text feature"), cells_of(table, level)
    assert control.comparison == configuration.comparison and (
        configuration.comparison is None
    ) == (level == "4")
    assert control.cells["harmonic_mean"] == configuration.cells["harmonic_mean"]
    assert [row for row in table.rows if row is not control] == list(without.rows)
    counted, before = ([n for n in of.notes if "comparisons:" in n] for of in (table, without))
    assert counted == before


LEAKY: dict[str, Callable[[], StoreBuilder]] = {
    "levels": prompt_len, "grid": lambda: listed("grid"), "sampled": lambda: listed("sampled"),
    "datasets": over_datasets, "few shot": few_shot,
}  # fmt: skip


@pytest.mark.parametrize("shape", LEAKY)
def test_every_table_warns_of_selection_on_test_images(shape: str) -> None:
    """Title, footnote and rows have the warning, and analyses have it in the title."""
    builder = LEAKY[shape]()
    for run in builder.runs:
        run.tags["ship.selection"] = "test"
    report = make_report(builder.study())
    for table in (each for each in report.all_tables if each.place != "csv"):
        assert table.title.endswith("(selected on test)")
    for table in (each for each in report.tables if each.place != "csv"):
        assert table.notes[0].startswith("selected on test")
        assert {row.selection for row in table.rows} == {"test"}


def test_no_number_is_nan() -> None:
    """Every number of every table is finite, whatever a run logged."""
    odd = prompt_len()
    for run in odd.runs[::2]:
        run.metrics["test/new/seed_1"] = math.nan
        run.metrics["selection/harmonic_mean/seed_2"] = math.inf
        run.metrics["trial/seconds"] = math.nan
    studies = [odd, listed("grid"), listed("sampled")]
    for builder in studies:
        values = [x for table in build_tables(builder.study()) for x in numbers(table)]
        assert values
        assert all(map(math.isfinite, values))


@pytest.mark.parametrize(
    ("builder", "metric", "choices"),
    [
        (few_shot(), "new", "accuracy"),
        (collapsing(), "quality/beauty", ".*ausuc.*quality/mmd"),
    ],
)
def test_an_unknown_metric_is_one_line_with_the_choices(
    builder: Any, metric: str, choices: str
) -> None:
    """The protocol does not have it."""
    with pytest.raises(ReportError, match=rf"no test metric '{metric}'; choices: {choices}"):
        build_tables(builder.study(), metric)


def test_a_metric_may_be_named_by_its_heading() -> None:
    """In upper or lower case."""
    study = few_shot().study()
    heading = study.protocol.headings["accuracy"].upper()
    assert build_tables(study, heading) == build_tables(study, "accuracy")
    assert resolve_metric(collapsing().study(), "h")[1] == "harmonic_mean"


@pytest.mark.parametrize(
    ("builder", "name"),
    [(few_shot(), "accuracy"), (cross_dataset(), "accuracy"), (collapsing(), "unseen")],
)
def test_complete_without_the_protocols_metric_is_a_failure(builder: Any, name: str) -> None:
    """The protocol defines the metrics that a finished seed needs."""
    del builder.runs[0].metrics[f"test/{name}/seed_1"]
    rows = builder.study().rows
    failed = rows.filter(rows["state"] == "FAIL")
    assert failed["seed"].to_list() == [1]
    assert failed["reason"].to_list() == [f"no finite test/{name} logged"]


@pytest.mark.parametrize(
    ("of", "protocol", "message"),
    [
        (9, "open_set", r"ship\.protocol\), one of base_to_new.*; got open_set"),
        (1, "few_shot", r"must have the same protocol .*; got base_to_new, few_shot"),
    ],
)
def test_unknown_and_mixed_protocols_are_one_line(of: int, protocol: str, message: str) -> None:
    """The protocol is from a newer version, or the study has metrics of two."""
    builder = prompt_len()
    for run in builder.runs[:of]:
        run.tags["ship.protocol"] = protocol
    with pytest.raises(ReportError, match=message):
        builder.study()


@pytest.mark.parametrize(("params", "hit"), load_cases(__file__, "flags.yaml"))
def test_configurations_equal_to_a_control_have_no_diversity_flag(
    params: dict[str, str], hit: bool
) -> None:
    """Without diversity by construction, diversity_collapse is dropped, and other flags stay."""
    builder = StoreBuilder(name="gen", factors=one_factor("generator", ["one", "vae"], "vae"))
    results = {s: scores(50.0 + s) for s in SEEDS}
    builder.trial(
        {"generator": "one"}, results, flags={"diversity_collapse": SEEDS, "mean_gap": SEEDS}
    )
    builder.trial({"generator": "vae"}, results)
    builder.runs[0].params.update(params)
    table, *_ = build_tables(builder.study())
    raised = {flag.name for flag in cells_of(table, "one").flags}
    assert raised == ({"diversity_collapse", "mean_gap"} if hit else {"mean_gap"})


def test_the_reason_of_failures_is_next_to_their_number() -> None:
    """It is not the reason why other results are missing."""
    builder = leveled({1: 50.0, 2: 52.0})
    builder.trial({N_CTX: 3}, {0: {}}, state="FAIL", reason="worker died")
    builder.want({N_CTX: 4})
    (note,) = [note for note in build_tables(builder.study())[0].notes if "not in any" in note]
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
