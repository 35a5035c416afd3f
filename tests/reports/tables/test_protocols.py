"""Each protocol's own metrics, words and defaults; old stores and mixed ones."""

from typing import Any

import pytest

from reports.contract import ReportError
from reports.render.terminal import terminal_text
from reports.tables.build import build_tables
from reports.tables.model import Table
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.studies import (
    KL,
    SEEDS,
    collapsing,
    cross_dataset,
    few_shot,
    one_factor,
    one_softmax,
)
from tests.reports.tables.cells import cells_of


def headings(table: Table) -> list[str]:
    """The page's columns between n, the selection score and the differences."""
    names = [column.heading for column in table.page_columns]
    start = 3 if names[2].startswith("sel.") else 2
    return names[start : next(i for i, name in enumerate(names) if name.startswith("Δ"))]


def test_recognised_is_the_number_of_single_unseen() -> None:
    """It stands before Fréchet and stays on a narrow terminal."""
    table = build_tables(collapsing("single_unseen").study())[-1]
    shown = [column.heading for column in table.page_columns]
    assert shown[2:5] == ["cos / text", "recognised", "Fréchet"]
    assert "recognised" not in terminal_text([table], 80).partition("too narrow for")[2]


def test_calibration_is_not_claimed_of_pseudo_new_where_it_was_not() -> None:
    """Under another selection rule the constant comes from that rule's pictures."""
    builder = collapsing()
    for run in builder.runs:
        run.tags["ship.selection"] = "test"
    notes = "\n".join(build_tables(builder.study())[0].notes)
    assert "chosen on pseudo-new" not in notes
    assert "calibration constant chosen on the pictures that select epochs" in notes


def test_without_calibration_its_columns_are_gone() -> None:
    """base_val has seen classes alone: S on selection, and no constant to calibrate with."""
    builder = StoreBuilder(
        name="kl", factors=one_factor(KL, (0.1, 1), 0.1), protocol="generalized_zero_shot",
        selection="base_val", objective="seen", sampler="random", trials=2,
    )  # fmt: skip
    kept = ("seen", "unseen", "harmonic_mean", "ausuc")
    for weight in (0.1, 1):
        results = {s: {k: one_softmax(60 + s, 50)[k] for k in kept} for s in SEEDS}
        builder.trial({KL: weight}, results, selected={"seen": 58.0 + weight})
    study = builder.study()
    table, *_ = build_tables(study)
    assert headings(table) == ["S", "U", "H", "AUSUC"]
    assert "epochs selected on seen-class validation pictures" in table.notes
    assert not any("calibrat" in note for note in table.notes)
    assert study.objective == "seen"


@pytest.mark.parametrize("selection", ["base_val", "pseudo_new"])
def test_few_shot(selection: str) -> None:
    """One accuracy, and no word of base or new classes."""
    table, *_ = build_tables(few_shot(selection).study())
    assert headings(table) == ["Acc."]
    assert "epochs selected on validation pictures" in table.notes
    notes = "\n".join(table.notes)
    assert "pseudo-new" not in notes and "base class" not in notes and "H =" not in notes
    difference = cells_of(table, "tip_adapter").cells["difference"].estimate
    assert difference.mean == pytest.approx(2 + 2 / 5)


def test_cross_dataset() -> None:
    """A column for each target in the study's order, their average, the source."""
    table, *_ = build_tables(cross_dataset(("dtd", "caltech101")).study())
    assert headings(table) == ["dtd", "caltech101", "Average", "Source"]
    cells = cells_of(table, "vae").cells
    each = [cells[f"accuracy/{target}"].estimate.mean for target in ("dtd", "caltech101")]
    assert cells["accuracy"].estimate.mean == pytest.approx(sum(each) / 2)
    assert "ΔAverage" in [column.heading for column in table.columns]
    notes = "\n".join(table.notes)
    assert "Synthesis used the target's class names" in notes
    assert "source dataset emoji; targets dtd, caltech101" in notes


def test_a_target_without_results_keeps_its_column() -> None:
    """What the study wants tested and nobody tested is a column of dashes."""
    builder = cross_dataset()
    for run in builder.runs:
        for seed in SEEDS:
            del run.metrics[f"seed_{seed}/test/accuracy/dtd"]
    table, *_ = build_tables(builder.study(), "accuracy/dtd")
    assert "dtd" in headings(table)
    assert "accuracy/dtd" not in cells_of(table, "vae").cells


def test_cross_dataset_objective_is_of_the_source() -> None:
    """The selection objective is base-to-new's H, by its own heading."""
    table = build_tables(cross_dataset(shots=(4, 16)).study())[0]
    assert "sel. H" in [column.heading for column in table.columns]
    assert [row.cells["shots"].text for row in table.rows] == ["16", "16", "4", "4"]


@pytest.mark.parametrize(
    ("builder", "metric", "choices"),
    [
        (few_shot(), "new", "accuracy"),
        (cross_dataset(), "base", "accuracy/caltech101, accuracy/dtd, accuracy, source"),
        (collapsing(), "base", "seen, unseen, harmonic_mean, calibrated_seen, "),
    ],
)
def test_a_metric_that_the_protocol_lacks(builder: Any, metric: str, choices: str) -> None:
    """One line names the metrics that there are."""
    with pytest.raises(ReportError, match=rf"no test metric '{metric}'; metric may be: {choices}"):
        build_tables(builder.study(), metric)


@pytest.mark.parametrize(
    ("builder", "name"),
    [(few_shot(), "accuracy"), (cross_dataset(), "accuracy"), (collapsing(), "unseen")],
)
def test_complete_without_the_protocols_metric_is_a_failure(builder: Any, name: str) -> None:
    """What a result must have is the protocol's to say."""
    del builder.runs[0].metrics[f"seed_1/test/{name}"]
    rows = builder.study().rows
    failed = rows.filter(rows["state"] == "FAIL")
    assert failed["seed"].to_list() == [1]
    assert failed["reason"].to_list() == [f"no finite test/{name} logged"]


def test_an_old_store_is_base_to_new() -> None:
    """Without ship.protocol, ship.flags or the targets' param, the tables are what they were."""
    old = prompt_len()
    for run in old.runs:
        del run.tags["ship.protocol"], run.params["protocol"], run.params["targets"]
    new_tables, old_tables = build_tables(prompt_len().study()), build_tables(old.study())
    assert [table.rows for table in old_tables] == [table.rows for table in new_tables]
    assert [table.columns for table in old_tables] == [table.columns for table in new_tables]


@pytest.mark.parametrize(
    ("of", "protocol", "told"),
    [
        (9, "open_set", r"ship\.protocol: 'open_set' is unknown here"),
        (1, "few_shot", r"several protocols in one study \(base_to_new, few_shot"),
    ],
)
def test_protocols_that_no_table_has(of: int, protocol: str, told: str) -> None:
    """Neither one of a newer harness, nor metrics of two in one table."""
    builder = prompt_len()
    for run in builder.runs[:of]:
        run.tags["ship.protocol"] = protocol
    with pytest.raises(ReportError, match=told):
        builder.study()


def test_targets_as_a_factor_are_not_compared() -> None:
    """Averages over other targets are other numbers: a row each, no difference."""
    levels = [["dtd"], ["sun397"]]
    builder = StoreBuilder(
        name="to", factors=one_factor("targets", levels, levels[0]), protocol="cross_dataset"
    )
    for place, targets in enumerate(levels):
        value = 40.0 + place
        result = {"accuracy": value, "source": 70.0, f"accuracy/{targets[0]}": value}
        builder.trial({"targets": targets}, {s: result for s in SEEDS}, selected=scores(50.0))
    table, *_ = build_tables(builder.study())
    shown = [column.heading for column in table.page_columns]
    assert shown == ["targets", "n", "sel. H", "dtd", "sun397", "Average", "Source", "s/seed"]
    assert "accuracy/sun397" not in table.rows[0].cells
