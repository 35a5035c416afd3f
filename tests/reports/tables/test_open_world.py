"""Base against new pictures: in the CSV always, in a table where it is asked for."""

from reports.render import csv_text
from reports.tables import build_tables
from tests.reports.builder import StoreBuilder, scores


def test_it_is_a_column_where_it_is_asked_for() -> None:
    """With differences of its own, and a note that says what it is; in the CSV it always is."""
    builder = StoreBuilder()
    for n_ctx, gain in ((4, 0.0), (8, 3.0)):
        own = {"openworld_auc": 30.0 + gain, "auroc": 80.0}
        results = {s: scores(50.0 + s) | {k: v + s for k, v in own.items()} for s in range(5)}
        builder.trial({"generator.n_ctx": n_ctx}, results)
    plain = build_tables(builder.study())[0]
    assert "OpenworldAUC" not in [column.heading for column in plain.page_columns]
    table = build_tables(builder.study(), "openworld_auc")[0]
    assert "OpenworldAUC" in [column.heading for column in table.page_columns]
    (row,) = (r for r in table.rows if r.cells["openworld_auc"].estimate.mean == 35.0)
    assert row.cells["difference"].estimate.mean == 3.0
    assert any("arXiv:2505.05180" in note for note in table.notes)
    assert not any("arXiv:2505.05180" in note for note in plain.notes)
    csv = csv_text(plain)
    assert "openworld_auc" in csv and "auroc" in csv and "ece_base" not in csv
