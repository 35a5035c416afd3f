"""Tables of chosen values and of feature quality: rounded values, partial measures, and notes."""

from reports.cells import Text
from reports.tables.selection_tables import make_quality_tables, make_selection_tables
from tests.reports.builder import StoreBuilder, make_scores
from tests.reports.cases import make_tuned_at_inference
from tests.reports.studies import make_collapsing_study, make_factors, make_multi_dataset_study
from tests.reports.tables.cells import find_row


def make_chosen_alphas(*alphas: float) -> StoreBuilder:
    """Make a study whose seeds chose these values of alpha at both levels."""
    builder = make_tuned_at_inference()
    for run in builder.runs:
        for seed, alpha in enumerate(alphas):
            run.metrics[f"selection/alpha/seed_{seed}"] = alpha
    return builder


def test_chosen_values_are_rounded_before_they_are_counted() -> None:
    """Values that look equal are counted together; more than three are a range."""
    (table,) = make_selection_tables(
        make_chosen_alphas(0.1234, 0.1231, 0.1229, 2.0, 3.0).make_study()
    )
    assert find_row(table, "4").cells["alpha"] == Text("0.123 (3), 2 (1), 3 (1)")
    builder = make_chosen_alphas(0.1234, 1.0, 0.1229, 2.0, 3.0)
    (table,) = make_selection_tables(builder.make_study())
    assert find_row(table, "4").cells["alpha"] == Text("0.123 to 3")


def test_notes_explain_only_the_columns_of_the_table() -> None:
    """Values that were not chosen, and averages without datasets, are not explained."""
    notes = "\n".join(make_selection_tables(make_tuned_at_inference().make_study())[0].notes)
    assert "inference grid: alpha\n" in notes
    assert "age:" not in notes and "calibration:" not in notes
    counted = "datasets: number of averaged datasets"
    for builder, has_datasets in (
        (make_collapsing_study(), False),
        (make_multi_dataset_study(), True),
    ):
        (table,) = make_quality_tables(builder.make_study())
        assert (counted in table.notes) == has_datasets
        assert any(column.key == "datasets" for column in table.columns) == has_datasets


def test_measure_without_a_meaning_adds_no_empty_note() -> None:
    """Density is explained with precision, which this study lacks."""
    builder = StoreBuilder(factors=make_factors("shots", [4], 4))
    builder.add_run(
        {"shots": 4}, {s: make_scores(50.0) | {"quality/density": 0.9} for s in range(3)}
    )
    (table,) = make_quality_tables(builder.make_study())
    assert all(table.notes)


def test_value_and_reference_have_their_own_numbers_of_seeds() -> None:
    """A reference that fewer seeds have does not change the n of the measure."""
    builder = make_collapsing_study()
    metrics = builder.runs[2].metrics
    del metrics["test/quality/real_diversity/seed_0"]
    for seed in (0, 1):
        del metrics[f"test/quality/effective_rank/seed_{seed}"]
    cells = find_row(make_quality_tables(builder.make_study())[0], "1").cells
    assert cells["diversity"].suffix == "/ 0.520 (n 4)"
    assert cells["effective_rank"].suffix == "(n 3) / 88.1"
    assert cells["cosine_to_mean"].suffix == "/ 0.740"
