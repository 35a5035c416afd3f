"""Studies over datasets: averages by hand, missing cells, and what the tables must say of them."""

import pytest

from reports.cells import Counts, Text, Value
from reports.report import make_report
from reports.stats import Estimate, percent_interval
from reports.tables import MOST_LEVELS
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, scores
from tests.reports.listed import listed
from tests.reports.studies import crossed, harmonic, one_factor, over_datasets, quality
from tests.reports.tables.cells import NAMES, by_name, cells_of


def test_the_average_h_is_that_of_the_means() -> None:
    """By hand: B and N averaged over datasets by seed, H of those, then the mean over seeds."""
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
    assert vae["average/harmonic_mean"].estimate == percent_interval(seeds)
    difference = vae["difference"].estimate
    assert difference.mean == pytest.approx(sum(seeds) / 2 - expected)
    assert (difference.n, none["difference"]) == (2, Text("baseline"))
    assert any("an H that of the mean halves" in note for note in table.notes)


def test_seeds_that_lack_a_dataset_are_not_in_the_average() -> None:
    """n counts seeds that finished everywhere; a dataset with more seeds says its own n."""
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
    """Methods in the order of the study's levels, datasets likewise, however the runs came."""
    builder = over_datasets()
    builder.runs.reverse()
    builder.wanted = builder.wanted[::-1]
    table = by_name(builder)["datasets"]
    assert table == by_name(over_datasets())["datasets"]
    shown = [column.heading for column in table.page_columns]
    assert shown[:9] == ["generator", "n", "epoch", *NAMES, "mean Base", "mean New", "H of means"]


def test_tables_of_many_datasets_leave_the_terminal() -> None:
    """Over more than three datasets each one's table is in the files alone."""
    builder = over_datasets(("a", "b", "c", "d"), ("none", "vae"))
    assert {t.name: t.place for t in build_tables(builder.study())} == {
        "datasets": "page", "quality": "files",
        **{f"{name}-generator": "files" for name in "abcd"},
    }  # fmt: skip


def test_a_measure_that_no_average_has_leaves_the_table() -> None:
    """Methods that share no seed over datasets have no average; nor has what one dataset lacks."""
    factors = [*one_factor("dataset", ["a", "b"], "a"), *one_factor("generator", ["vae"], "vae")]
    builder = StoreBuilder(name="run", factors=factors, seeds=range(4))
    for dataset, seeds in (("a", (0, 1)), ("b", (2, 3))):
        found = {s: scores(50.0 + s) | quality(s) for s in seeds}
        builder.trial({"dataset": dataset, "generator": "vae"}, found)
    assert not [t for t in make_report(builder.study()).every_table if t.name == "quality"]


def test_many_datasets_alone_are_not_compared() -> None:
    """Levels on classes of their own are no settings to be ranked, however many they are."""
    names = [f"d{number:02}" for number in range(MOST_LEVELS + 1)]
    study = crossed(
        {"dataset": names}, lambda name, s: scores(40.0 + names.index(name) + s)
    ).study()
    report = make_report(study)
    assert "settings" not in [table.name for table in report.tables]
    assert not [row for table in report.tables for row in table.rows if row.compared]
