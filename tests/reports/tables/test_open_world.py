"""Base against new pictures: in the CSV always, in a table where it is asked for."""

from reports.render import csv_text
from reports.tables import build_tables
from tests.reports.builder import StoreBuilder, scores

SEEDS = range(5)


def builder(measured: bool) -> StoreBuilder:
    """Two levels, with or without what earlier versions did not measure."""
    made = StoreBuilder()
    for n_ctx, gain in ((4, 0.0), (8, 3.0)):
        own = {"openworld_auc": 30.0 + gain, "auroc": 80.0, "joint_accuracy": 50.0}
        results = {
            s: scores(50.0 + s) | ({k: v + s for k, v in own.items()} if measured else {})
            for s in SEEDS
        }
        made.trial({"generator.n_ctx": n_ctx}, results)
    return made


def test_it_is_a_column_where_it_is_asked_for() -> None:
    """With differences of its own, and a note that says what it is."""
    plain = build_tables(builder(True).study())[0]
    assert "OpenworldAUC" not in [column.heading for column in plain.page_columns]
    table = build_tables(builder(True).study(), "openworld_auc")[0]
    assert "OpenworldAUC" in [column.heading for column in table.page_columns]
    (row,) = (r for r in table.rows if r.cells["openworld_auc"].estimate.mean == 35.0)
    assert row.cells["difference"].estimate.mean == 3.0
    assert any("arXiv:2505.05180" in note for note in table.notes)
    assert not any("arXiv:2505.05180" in note for note in plain.notes)


def test_csv_has_what_was_measured() -> None:
    """And no columns of nothing for runs of earlier versions."""
    csv = csv_text(build_tables(builder(True).study())[0])
    assert "openworld_auc" in csv and "auroc" in csv and "ece_base" not in csv
    assert "openworld_auc" not in csv_text(build_tables(builder(False).study())[0])
