"""Tables of studies over datasets: averages, missing cells and notes."""

import pytest

from reports.cells import Counts, Text, Value
from reports.stats import Estimate, compute_percent_interval
from tests.reports.builder import make_scores
from tests.reports.studies import compute_harmonic_mean, make_grid_study, make_multi_dataset_study
from tests.reports.tables.cells import DATASETS, build_tables_by_name, find_row
from tests.reports.yaml_studies import load_yaml_study


def test_the_average_h_is_that_of_the_means() -> None:
    """B and N are averaged over datasets by seed, then H is computed, then the mean over seeds."""
    table = build_tables_by_name(load_yaml_study("two-by-two"))["datasets"]
    none = find_row(table, "none").cells
    # seed 0: B = (90 + 50) / 2, N = (30 + 70) / 2; seed 1: B = (88 + 52) / 2, N = (34 + 66) / 2
    expected = (compute_harmonic_mean(70, 50) + compute_harmonic_mean(70, 50)) / 2
    assert none["average/harmonic_mean"].estimate.mean == pytest.approx(expected)
    assert none["average/base"].estimate.mean == pytest.approx(70)
    assert none["average/new"].estimate.mean == pytest.approx(50)
    mean_of_h = (compute_harmonic_mean(90, 30) + compute_harmonic_mean(50, 70)) / 2
    assert abs(mean_of_h - expected) > 1
    h_by_seed = (compute_harmonic_mean(69, 55), compute_harmonic_mean(68, 57))
    vae = find_row(table, "vae").cells
    assert vae["average/harmonic_mean"].estimate.mean == pytest.approx(sum(h_by_seed) / 2)
    assert vae["average/harmonic_mean"].estimate == compute_percent_interval(h_by_seed)
    difference = vae["difference"].estimate
    assert difference.mean == pytest.approx(sum(h_by_seed) / 2 - expected)
    assert (difference.n, none["difference"]) == (2, Text("baseline"))
    assert any(
        "H of an average is the harmonic mean of the averaged" in note for note in table.notes
    )


def test_the_note_on_averages_is_about_the_table() -> None:
    """The note explains H only if the study has H, and "(k/m)" only if a dataset is missing."""
    accuracies = make_grid_study(
        {"dataset": ["a", "b"], "finetuner": ["coop", "cocoop"]},
        lambda *levels: {"accuracy": 60.0 + levels[-1]},
        protocol="few_shot",
        objective="accuracy",
    )
    (note,) = [
        note
        for note in build_tables_by_name(accuracies)["datasets"].notes
        if "averages over" in note
    ]
    assert "H of" not in note
    gap = "(k/m): only k of the m datasets have a result"
    incomplete = make_multi_dataset_study(skip={("vae", "dtd"): "FAIL"})
    tables = (
        build_tables_by_name(make_multi_dataset_study())["datasets"],
        build_tables_by_name(incomplete)["datasets"],
    )
    assert [any(gap in note for note in table.notes) for table in tables] == [False, True]


def test_seeds_that_lack_a_dataset_are_not_in_the_average() -> None:
    """n counts the seeds that finished on all datasets. Datasets with more seeds show their n."""
    builder = load_yaml_study("two-by-two")
    builder.runs.pop()
    builder.add_run({"dataset": "b", "generator": "vae"}, {0: make_scores(70.0, 48.0)})
    builder.add_run({"dataset": "b", "generator": "vae"}, {1: {}}, state="FAIL", reason="boom")
    cells = find_row(build_tables_by_name(builder)["datasets"], "vae").cells
    assert cells["n"] == Counts(1, failed=1)
    assert cells["a/harmonic_mean"].suffix == "(n 2)"
    assert cells["b/harmonic_mean"].suffix == ""
    average = Estimate(pytest.approx(compute_harmonic_mean(69, 55)), None, None, 1)
    assert cells["average/harmonic_mean"] == Value(average)


def test_rows_follow_the_levels_not_the_runs() -> None:
    """Methods and datasets are in the order of the study's levels."""
    builder = make_multi_dataset_study()
    builder.runs.reverse()
    builder.planned = builder.planned[::-1]
    table = build_tables_by_name(builder)["datasets"]
    assert table == build_tables_by_name(make_multi_dataset_study())["datasets"]
    headings = [column.heading for column in table.page_columns]
    assert headings[:9] == [
        "generator",
        "n",
        "epoch",
        *DATASETS,
        "mean Base",
        "mean New",
        "H of means",
    ]
