"""Tables of studies whose comparisons got seeds until each was decided."""

from reports.render import make_publication
from reports.report import make_report
from reports.stats import Design, endings
from reports.tables import Row, Table, Value, build_tables
from tests.reports.listed import listed

N_CTX = "generator.n_ctx"
GIVEN = {1: 4, 2: 8, 4: 12, 8: 12}  # n_ctx -> seeds until it is decided


def rows_of(table: Table) -> dict[str, Row]:
    """Rows that are compared, by level."""
    return {
        row.cells["level"].text: row  # type: ignore[union-attr]
        for row in table.rows
        if isinstance(row.cells.get("difference"), Value)
    }


def test_differences_have_the_interval_of_the_design() -> None:
    """Each row's, in the order in which the seeds were given out."""
    study = listed("seeds-until-decided").study()
    values = {
        (n_ctx, seed): value
        for n_ctx, seed, value in study.rows.select(N_CTX, "seed", "test/harmonic_mean").rows()
    }
    family = [
        [values[n_ctx, seed] - values[4, seed] for seed in range(GIVEN[n_ctx])]
        for n_ctx in (1, 2, 8)
    ]
    found = endings(Design(1.0, (4, 8, 12), 3), family, 100.0)
    rows = rows_of(build_tables(study)[0])
    for level, verdict in zip(("1", "2", "8"), found, strict=True):
        cell = rows[level].cells["difference"]
        assert verdict is not None and isinstance(cell, Value)
        assert cell.estimate == verdict.difference


def test_headlines_have_no_interval_beside_the_design_s() -> None:
    """The best setting's to the baseline is the table's; to an arm there is none."""
    made = make_report(listed("seeds-until-decided-narrowly").study())
    shown = make_publication(made).metrics
    estimate = rows_of(made.tables[0])["1"].cells["difference"].estimate  # type: ignore[union-attr]
    head = "headline/vs_baseline/harmonic_mean"
    assert [shown[f"{head}{end}"] for end in ("", "_low", "_high")] == [
        estimate.mean, estimate.low, estimate.high,
    ]  # fmt: skip
    assert "headline/vs_no_synthetic/harmonic_mean" in shown
    assert "headline/vs_no_synthetic/harmonic_mean_low" not in shown
