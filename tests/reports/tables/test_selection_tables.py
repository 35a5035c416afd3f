"""Tables of chosen values and of feature quality: rounded values, partial measures, and notes."""

from reports.cells import Text
from reports.tables.selection_tables import make_quality_tables, make_selection_tables
from tests.reports.builder import StoreBuilder, scores
from tests.reports.cases import searched
from tests.reports.studies import collapsing, one_factor, over_datasets
from tests.reports.tables.cells import cells_of


def with_alphas(*alphas: float) -> StoreBuilder:
    """A study whose seeds chose these values of alpha at both levels."""
    builder = searched()
    for run in builder.runs:
        for seed, alpha in enumerate(alphas):
            run.metrics[f"selection/alpha/seed_{seed}"] = alpha
    return builder


def test_chosen_values_are_rounded_before_they_are_counted() -> None:
    """Values that look equal are counted together; more than three are a range."""
    (table,) = make_selection_tables(with_alphas(0.1234, 0.1231, 0.1229, 2.0, 3.0).study())
    assert cells_of(table, "4").cells["alpha"] == Text("0.123 (3), 2 (1), 3 (1)")
    (table,) = make_selection_tables(with_alphas(0.1234, 1.0, 0.1229, 2.0, 3.0).study())
    assert cells_of(table, "4").cells["alpha"] == Text("0.123 to 3")


def test_notes_explain_only_the_columns_of_the_table() -> None:
    """Values that were not chosen, and averages without datasets, are not explained."""
    notes = "\n".join(make_selection_tables(searched().study())[0].notes)
    assert "inference grid: alpha\n" in notes
    assert "age:" not in notes and "calibration:" not in notes
    counted = "datasets: number of averaged datasets"
    for builder, has_datasets in ((collapsing(), False), (over_datasets(), True)):
        (table,) = make_quality_tables(builder.study())
        assert (counted in table.notes) == has_datasets
        assert any(column.key == "datasets" for column in table.columns) == has_datasets


def test_measure_without_a_meaning_adds_no_empty_note() -> None:
    """Density is explained with precision, which this study lacks."""
    builder = StoreBuilder(factors=one_factor("shots", [4], 4))
    builder.trial({"shots": 4}, {s: scores(50.0) | {"quality/density": 0.9} for s in range(3)})
    (table,) = make_quality_tables(builder.study())
    assert all(table.notes)


def test_value_and_reference_have_their_own_numbers_of_seeds() -> None:
    """A reference that fewer seeds have does not change the n of the measure."""
    builder = collapsing()
    metrics = builder.runs[2].metrics
    del metrics["test/quality/real_diversity/seed_0"]
    for seed in (0, 1):
        del metrics[f"test/quality/effective_rank/seed_{seed}"]
    cells = cells_of(make_quality_tables(builder.study())[0], "1").cells
    assert cells["diversity"].suffix == "/ 0.520 (n 4)"
    assert cells["effective_rank"].suffix == "(n 3) / 88.1"
    assert cells["cosine_to_mean"].suffix == "/ 0.740"
