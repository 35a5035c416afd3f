"""Tables: what enters a mean, what is compared to what, and what every table must say."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

from reports.stats import Estimate, holm, minimum_detectable
from reports.tables.build import build_tables
from reports.tables.model import (
    Counts,
    PValue,
    Quantity,
    Text,
)
from tests.reports.tables.cells import cells_of, numbers

Build = Callable[..., Any]
N_CTX = "generator.n_ctx"


def test_ablation_table_of_the_packaged_study(packaged: Build) -> None:
    """One table: levels ascending, arms below in their order, the baseline marked."""
    table, *_ = build_tables(packaged().study())
    labels = [row.cells["level"].text for row in table.rows]
    assert labels == [
        "1", "2", "4", "8", "16",
        "zero-shot", "fine-tuner alone", "text feature", "real pictures (ceiling)",
    ]  # fmt: skip
    assert [row.baseline for row in table.rows].index(True) == 2
    assert cells_of(table, "4").cells["difference"] == Text("baseline")
    assert all(row.cells["n"] == Counts(5) for row in table.rows)


def test_numbers_agree_with_scipy(packaged: Build) -> None:
    """Means, paired differences and Holm's p, computed again from the rows."""
    study = packaged().study()
    table, *_ = build_tables(study)
    level = {
        n: study.rows.filter(study.rows[N_CTX] == n)["test/harmonic_mean"].to_numpy()
        for n in (1, 2, 4, 8, 16)
    }
    for n in (1, 2, 8, 16):
        cells = cells_of(table, str(n)).cells
        assert cells["harmonic_mean"].estimate.mean == pytest.approx(level[n].mean())
        assert cells["difference"].estimate.mean == pytest.approx((level[n] - level[4]).mean())
        assert cells["seconds"] == Quantity(8.0)


def test_a_table_is_one_family(packaged: Build) -> None:
    """Holm counts levels and arms together, and so does the smallest difference that is found."""
    study = packaged().study()
    table, *_ = build_tables(study)
    rows = study.rows
    base = rows.filter(rows[N_CTX] == 4)["test/harmonic_mean"].to_numpy()
    arms = ("zero_shot", "no_synthetic", "text_feature", "real_pictures")
    compared = [rows.filter(rows[N_CTX] == n) for n in (1, 2, 8, 16)]
    compared += [rows.filter(rows["arm"] == arm) for arm in arms]
    values = [part["test/harmonic_mean"].to_numpy() for part in compared]
    raw = [reference.ttest_rel(value, base).pvalue for value in values]
    found = [row.cells for row in table.rows if not row.baseline]
    assert [cells["p"].p for cells in found] == pytest.approx(holm(raw))
    for cells, value in zip(found, values, strict=True):
        expected = minimum_detectable(float(np.std(value - base, ddof=1)), 5, 8)
        assert cells["detectable"].number == pytest.approx(expected)
    assert any("Holm over the table's 8 comparisons" in note for note in table.notes)


def test_order_of_runs_does_not_matter(packaged: Build) -> None:
    """The same runs in another order, listed in another order, give the same table."""
    one, other = packaged(), packaged()
    other.runs.reverse()
    other.wanted.reverse()
    assert build_tables(one.study()) == build_tables(other.study())


def test_counts_stand_beside_the_mean(build: Build, percentages: Build) -> None:
    """n is the finished rows; failed, pruned and missing ones are counted and not averaged."""
    builder = build(seeds=(0, 1, 2, 3)).trial(
        {N_CTX: 4}, {s: percentages(55.0 + s) for s in range(4)}
    )
    builder.trial({N_CTX: 8}, {0: percentages(57.0), 1: percentages(58.5)})
    builder.trial({N_CTX: 8}, {2: {}}, state="FAIL", reason="NonFiniteLoss at epoch 3")
    builder.trial({N_CTX: 16}, {s: {} for s in range(4)}, state="PRUNED")
    table, *_ = build_tables(builder.study())
    eight = cells_of(table, "8").cells
    assert eight["n"] == Counts(done=2, failed=1, pruned=0, missing=1)
    assert eight["new"].estimate.mean == pytest.approx(57.75)
    assert eight["pairs"] == Quantity(2, 0)
    assert eight["difference"].estimate.n == 2
    assert cells_of(table, "16").cells == {"level": Text("16"), "n": Counts(0, 0, 4, 0)}
    notes = "\n".join(table.notes)
    assert "1 row failed, in no mean: NonFiniteLoss at epoch 3" in notes
    assert "4 rows stopped early by the scheduler" in notes
    assert "incomplete study: 1 row missing" in notes


def test_faults_do_not_move_the_finished_numbers(packaged: Build) -> None:
    """The same table with and without failed and interrupted attempts that were made good."""
    clean, bumpy = packaged(), packaged()
    for state in ("FAIL", "INTERRUPTED", "RUNNING"):
        bumpy.trial({N_CTX: 8}, {s: {} for s in range(5)}, state=state)
    assert build_tables(clean.study()) == build_tables(bumpy.study())


def test_all_failed_is_a_table_of_dashes(build: Build) -> None:
    """A study in which everything failed has rows with reasons and no number."""
    builder = build(seeds=(0,)).trial({N_CTX: 4}, {0: {}}, state="FAIL", reason="boom")
    table, *_ = build_tables(builder.study())
    assert set(table.rows[0].cells) == {"level", "n", "difference"}
    assert list(numbers(table)) == []


def test_one_seed_has_means_alone(build: Build, percentages: Build) -> None:
    """With n = 1 there is a difference, and neither interval nor p nor detectable effect."""
    builder = build(seeds=(0,))
    for n_ctx, new in ((4, 55.0), (8, 57.0)):
        builder.trial({N_CTX: n_ctx}, {0: percentages(new)})
    table, *_ = build_tables(builder.study())
    cells = cells_of(table, "8").cells
    assert cells["new"].estimate == Estimate(57.0, None, None, 1)
    assert "p" not in cells and "detectable" not in cells


def test_differences_that_do_not_vary_are_footnoted(build: Build, percentages: Build) -> None:
    """Two settings that the seeds do not move get the sign test, and the table says so."""
    builder = build(seeds=(0, 1, 2))
    for n_ctx, new in ((4, 55.0), (8, 57.0)):
        builder.trial({N_CTX: n_ctx}, {s: percentages(new) for s in range(3)})
    table, *_ = build_tables(builder.study())
    assert cells_of(table, "8").cells["p"] == PValue(0.25)
    assert any("exact sign test" in note for note in table.notes)


def test_mixed_selection_names_the_leaking_rows(build: Build, percentages: Build) -> None:
    """Where the selection rule is itself the factor, the footnote names the level."""
    factors = [{"key": "selection", "levels": ["pseudo_new", "test"], "log": False}]
    builder = build(factors=factors, seeds=(0, 1))
    for rule in ("pseudo_new", "test"):
        builder.trial({"selection": rule}, {s: percentages(55.0 + s) for s in range(2)})
        builder.runs[-1].tags["ship.selection"] = rule
    table, *_ = build_tables(builder.study())
    assert table.title.endswith("(selected on test)")
    assert "selected on test: test; not comparable with the others" in table.notes


def test_honest_selection_says_nothing_of_test(packaged: Build) -> None:
    """The label is not there where it is not deserved."""
    table, *_ = build_tables(packaged().study())
    assert "selected on test" not in "\n".join([table.title, *table.notes])


def test_a_factor_without_any_effect_is_called_so(build: Build, percentages: Build) -> None:
    """Equal results on every seed are more likely a study that did not train than a finding."""
    builder = build(seeds=(0, 1))
    for n_ctx in (4, 8, 16):
        builder.trial({N_CTX: n_ctx}, {s: percentages(55.0 + s) for s in range(2)})
    table, *_ = build_tables(builder.study())
    assert any(note.startswith("every Δ is 0 on every seed") for note in table.notes)
    builder.runs[-1].metrics["seed_0/test/harmonic_mean"] += 0.1
    table, *_ = build_tables(builder.study())
    assert not any(note.startswith("every Δ is 0") for note in table.notes)


@pytest.mark.parametrize("demonstration", [True, False])
def test_demonstration_backbone_is_footnoted(packaged: Build, demonstration: bool) -> None:
    """Numbers of the pocket backbone say that they are no CLIP's."""
    table, *_ = build_tables(packaged(demonstration=demonstration).study())
    note = "demonstration backbone: figures say nothing about CLIP"
    assert (note in table.notes) == demonstration


def test_changed_rows_are_footnoted(build: Build, percentages: Build) -> None:
    """Rows left out are counted under the table."""
    builder = build(seeds=(0,)).trial({N_CTX: 4}, {0: percentages(40.0)}, key="old", want=False)
    builder.trial({N_CTX: 4}, {0: percentages(55.0)}, key="new")
    table, *_ = build_tables(builder.study())
    assert "1 row of changed settings or seeds left out" in table.notes


def test_the_metric_decides_differences(packaged: Build) -> None:
    """Another metric than H brings its own column and heading."""
    table, *_ = build_tables(packaged().study(), "joint_new")
    headings = [column.heading for column in table.columns]
    assert "joint New" in headings and "Δjoint New" in headings
    cells = cells_of(table, "8").cells
    shift = cells["joint_new"].estimate.mean - cells_of(table, "4").cells["joint_new"].estimate.mean
    assert cells["difference"].estimate.mean == pytest.approx(shift)


def test_a_metric_that_rows_lack_is_a_dash(packaged: Build) -> None:
    """A mean over some of the rows would not have the n beside it."""
    builder = packaged()
    builder.runs[0].metrics.pop("seed_2/test/joint_harmonic_mean")
    table, *_ = build_tables(builder.study())
    assert "joint_harmonic_mean" not in cells_of(table, "1").cells
    assert "harmonic_mean" in cells_of(table, "1").cells


def test_an_arm_that_is_the_baseline_differs_by_nothing(packaged: Build) -> None:
    """A reference arm that shares the baseline's runs has the difference 0 and p 1."""
    builder = packaged()
    builder.wanted = [w for w in builder.wanted if w["arm"] != "text_feature"]
    builder.want({}, arm="text_feature", key='{"generator.n_ctx": 4}')
    table, *_ = build_tables(builder.study())
    cells = cells_of(table, "text feature").cells
    assert cells["difference"].estimate.mean == 0.0
    assert cells["harmonic_mean"] == cells_of(table, "4").cells["harmonic_mean"]
