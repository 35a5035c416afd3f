"""Studies over datasets: averages calculated by hand, missing cells, and notes."""

import pytest

from reports.cells import Counts, Text, Value
from reports.stats import Estimate, compute_percent_interval
from tests.reports.builder import scores
from tests.reports.listed import listed
from tests.reports.studies import crossed, harmonic, over_datasets
from tests.reports.tables.cells import NAMES, by_name, cells_of


def test_the_average_h_is_that_of_the_means() -> None:
    """B and N are averaged over datasets by seed, then H is computed, then the mean over seeds."""
    table = by_name(listed("two-by-two"))["datasets"]
    none = cells_of(table, "none").cells
    # seed 0: B = (90 + 50) / 2, N = (30 + 70) / 2; seed 1: B = (88 + 52) / 2, N = (34 + 66) / 2
    expected = (harmonic(70, 50) + harmonic(70, 50)) / 2
    assert none["average/harmonic_mean"].estimate.mean == pytest.approx(expected)
    assert none["average/base"].estimate.mean == pytest.approx(70)
    assert none["average/new"].estimate.mean == pytest.approx(50)
    mean_of_h = (harmonic(90, 30) + harmonic(50, 70)) / 2
    assert abs(mean_of_h - expected) > 1
    seeds = (harmonic(69, 55), harmonic(68, 57))
    vae = cells_of(table, "vae").cells
    assert vae["average/harmonic_mean"].estimate.mean == pytest.approx(sum(seeds) / 2)
    assert vae["average/harmonic_mean"].estimate == compute_percent_interval(seeds)
    difference = vae["difference"].estimate
    assert difference.mean == pytest.approx(sum(seeds) / 2 - expected)
    assert (difference.n, none["difference"]) == (2, Text("baseline"))
    assert any(
        "H of an average is the harmonic mean of the averaged" in note for note in table.notes
    )


def test_the_note_on_averages_is_about_the_table() -> None:
    """It explains H only if there is one, and "(k/m)" only if a method lacks a dataset."""
    accuracies = crossed(
        {"dataset": ["a", "b"], "finetuner": ["coop", "cocoop"]},
        lambda *levels: {"accuracy": 60.0 + levels[-1]},
        protocol="few_shot",
        objective="accuracy",
    )
    (note,) = [note for note in by_name(accuracies)["datasets"].notes if "averages over" in note]
    assert "H of" not in note
    gap = "(k/m): only k of the m datasets have a result"
    gone = over_datasets(skip={("vae", "dtd"): "FAIL"})
    tables = by_name(over_datasets())["datasets"], by_name(gone)["datasets"]
    assert [any(gap in note for note in table.notes) for table in tables] == [False, True]


def test_seeds_that_lack_a_dataset_are_not_in_the_average() -> None:
    """n counts seeds that finished on all datasets. A dataset with more seeds shows its n."""
    builder = listed("two-by-two")
    builder.runs.pop()
    builder.trial({"dataset": "b", "generator": "vae"}, {0: scores(70.0, 48.0)})
    builder.trial({"dataset": "b", "generator": "vae"}, {1: {}}, state="FAIL", reason="boom")
    cells = cells_of(by_name(builder)["datasets"], "vae").cells
    assert cells["n"] == Counts(1, failed=1)
    assert cells["a/harmonic_mean"].suffix == "(n 2)"
    assert cells["b/harmonic_mean"].suffix == ""
    average = Estimate(pytest.approx(harmonic(69, 55)), None, None, 1)
    assert cells["average/harmonic_mean"] == Value(average)


def test_rows_follow_the_levels_not_the_runs() -> None:
    """Methods and datasets are in the order of the study's levels."""
    builder = over_datasets()
    builder.runs.reverse()
    builder.wanted = builder.wanted[::-1]
    table = by_name(builder)["datasets"]
    assert table == by_name(over_datasets())["datasets"]
    shown = [column.heading for column in table.page_columns]
    assert shown[:9] == ["generator", "n", "epoch", *NAMES, "mean Base", "mean New", "H of means"]
