"""Tables of studies whose comparisons got seeds until each was decided."""

import numpy as np
import pytest

from reports.stats import Design, endings
from reports.tables import Row, Table, Value, build_tables
from tests.reports.builder import StoreBuilder, scores

N_CTX = "generator.n_ctx"
LOOKS = [4, 8, 12]
SEEDS = {1: 4, 2: 8, 4: 12, 8: 12}
DETECT = {"metric": "harmonic_mean", "effect": 1.0, "looks": LOOKS, "comparisons": 3}


def stopped(**keys: object) -> StoreBuilder:
    """n_ctx 4 is the baseline; 1 is far away, 2 near, 8 between."""
    build = StoreBuilder(seeds=range(12), detect=DETECT, **keys)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    for n_ctx, effect in {1: -9.0, 2: 0.0, 4: 0.0, 8: 1.0}.items():
        results = {seed: scores(55 + effect + rng.normal(0, 0.4)) for seed in range(SEEDS[n_ctx])}
        build.trial({N_CTX: n_ctx}, results, want=False)
        build.want({N_CTX: n_ctx}, seeds=range(SEEDS[n_ctx]) if SEEDS[n_ctx] < 12 else None)
    return build


def rows_of(table: Table) -> dict[str, Row]:
    """Rows that are compared, by level."""
    return {
        row.cells["level"].text: row  # type: ignore[union-attr]
        for row in table.rows
        if isinstance(row.cells.get("difference"), Value)
    }


def test_differences_have_the_interval_of_the_design() -> None:
    """Each row's, in the order in which the seeds were given out."""
    study = stopped().study()
    values = {
        (n_ctx, seed): value
        for n_ctx, seed, value in study.rows.select(N_CTX, "seed", "test/harmonic_mean").rows()
    }
    family = [
        [values[n_ctx, seed] - values[4, seed] for seed in range(SEEDS[n_ctx])]
        for n_ctx in (1, 2, 8)
    ]
    found = endings(Design(1.0, tuple(LOOKS), 3), family, 100.0)
    rows = rows_of(build_tables(study)[0])
    for level, verdict in zip(("1", "2", "8"), found, strict=True):
        cell = rows[level].cells["difference"]
        assert verdict is not None and isinstance(cell, Value)
        assert cell.estimate == verdict.difference


def test_a_note_says_how_seeds_were_given_out() -> None:
    """The design, what each row has come to, and nothing of missing rows."""
    study = stopped().study()
    text = "\n".join(build_tables(study)[0].notes)
    assert "ship-sweep --detect 1: seeds were added, from 4 to at most 12, until a Δ" in text
    assert "Δ differs from 0: n_ctx 1 (4)" in text
    assert "missing" not in text


@pytest.mark.parametrize("metric", ["base", None])
def test_other_metrics_have_the_plain_tests(metric: str | None) -> None:
    """Only what seeds were stopped by has the design's intervals; so it is without a design."""
    build = stopped()
    if metric is None:
        build.detect = None
    table = build_tables(build.study(), metric)[0]
    assert not any("--detect" in note for note in table.notes)
