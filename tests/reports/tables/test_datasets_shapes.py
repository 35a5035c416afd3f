"""Other shapes of a study over datasets: one factor, three, other protocols, figures."""

import pytest

from reports.charts import factor_charts
from reports.tables.build import build_tables
from reports.tables.model import Text
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import (
    SEEDS,
    cross_dataset,
    harmonic,
    one_factor,
    one_softmax,
    over_datasets,
)
from tests.reports.tables.cells import by_name, cells_of, two_by_two


def test_main_effects_of_two_other_factors_are_of_averages() -> None:
    """With two more factors: their main effects, a seed's value the average over datasets."""
    builder = two_by_two()
    builder.factors = [*builder.factors, *one_factor("shots", [4, 16], 4)]
    old, builder.runs, builder.wanted = builder.runs, [], []
    for run in old:
        dataset, generator = (run.params[key] for key in ("dataset", "generator"))
        for shots in (4, 16):
            gain = (shots == 16) * (3.0 if dataset == "a" else 1.0)
            results = {
                seed: scores(
                    run.metrics[f"seed_{seed}/test/new"] + gain,
                    run.metrics[f"seed_{seed}/test/base"],
                )
                for seed in (0, 1)
            }
            assignment = {"dataset": dataset, "generator": generator, "shots": shots}
            builder.trial(assignment, results)
    tables = by_name(builder)
    shots = tables["average-shots"]
    assert shots.title == "hand: average over 2 datasets, shots, main effects"
    cells = cells_of(shots, "16").cells
    assert cells["new"].estimate.mean == pytest.approx((52 + 58) / 2)
    # by seed and generator: N rises by 2 where B is 70, 70 (none) and 69, 68 (vae)
    pairs = [(70, 50), (70, 50), (69, 55), (68, 57)]
    gains = [harmonic(base, new + 2) - harmonic(base, new) for base, new in pairs]
    assert cells["difference"].estimate.mean == pytest.approx(sum(gains) / 4)
    assert any("an H is that of the averages" in note for note in shots.notes)
    assert cells_of(tables["datasets"], "none").cells["shots"] == Text("4")


def test_the_figure_of_another_factor_is_of_averages() -> None:
    """Markers are the table's averages; the title says what they are."""
    study = over_datasets().study()
    _, chart = factor_charts(study, "harmonic_mean")
    (means,) = [one for one in chart.spec["layer"] if one.get("name") == "means"]
    table = build_tables(study)[0]
    expected = [row.cells["average/harmonic_mean"].estimate.mean for row in table.rows[:3]]
    assert [one["y"] for one in means["data"]["values"]] == pytest.approx(expected)
    assert "average over 3 datasets" in chart.spec["title"][0]


def test_generalized_averages_use_their_own_halves() -> None:
    """H of the mean S and the mean U."""
    builder = StoreBuilder(
        name="awa", factors=one_factor("dataset", ["a", "b"], "a"),
        protocol="generalized_zero_shot", seeds=(0,),
    )  # fmt: skip
    builder.trial({"dataset": "a"}, {0: one_softmax(80, 40)})
    builder.trial({"dataset": "b"}, {0: one_softmax(50, 60)})
    cells = by_name(builder)["datasets"].rows[0].cells
    assert cells["average/harmonic_mean"].estimate.mean == pytest.approx(harmonic(65, 50))
    assert cells["average/unseen"].estimate.mean == pytest.approx(50)


def test_source_datasets_of_cross_dataset_are_averaged_plainly() -> None:
    """Accuracy has no halves: the mean over sources."""
    builder = cross_dataset()
    builder.factors = one_factor("dataset", ["emoji", "sun397"], "emoji")
    runs, builder.runs, builder.wanted = builder.runs, [], []
    for run, source in zip(runs, ("emoji", "sun397"), strict=True):
        metrics = {
            s: {"accuracy": run.metrics[f"seed_{s}/test/accuracy"], "source": 70.0} for s in SEEDS
        }
        builder.trial({"dataset": source}, metrics)
    table = by_name(builder)["datasets"]
    cells = table.rows[0].cells
    each = [cells[f"{name}/accuracy"].estimate.mean for name in ("emoji", "sun397")]
    assert cells["average/accuracy"].estimate.mean == pytest.approx(sum(each) / 2)
    assert "mean Average" in [column.heading for column in table.page_columns]
