"""Tables of studies whose comparisons got seeds until each was decided."""

import numpy as np
import polars as pl
import pytest

from reports.publication import make_publication
from reports.render import csv_text, text_of
from reports.report import make_report
from reports.stats import Design, Verdict, endings
from reports.tables import Row, Table, Text, Value, build_tables
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
    """The design, what decides in place of the plain tests, and nothing of missing rows."""
    study = stopped().study()
    text = "\n".join(build_tables(study)[0].notes)
    assert "ship-sweep --detect 1: seeds were added, from 4 to at most 12, until a Δ" in text
    assert "missing" not in text
    for other in ("Holm", "t-test", "MDE", "uncorrected", "sign test"):
        assert other not in text


def narrowly_different() -> StoreBuilder:
    """n_ctx 1 stops at the last look as different from 4, and by a small step at that."""
    detect = {"metric": "harmonic_mean", "effect": 1.0, "looks": [5, 8, 10], "comparisons": 4}
    build = StoreBuilder(seeds=range(10), detect=detect)
    rng = np.random.default_rng(26)
    for n_ctx, moved in {1: 0.9, 2: 0.2, 4: 0.0, 8: 0.4}.items():
        build.trial({N_CTX: n_ctx}, {s: scores(55 + moved + rng.normal(0, 0.5)) for s in range(10)})
    far = {seed: scores(52 + rng.normal(0, 0.5)) for seed in range(10)}
    return build.trial({}, far, arm="no_synthetic")


def test_the_design_alone_says_what_differs() -> None:
    """Table, CSV and answer: levels and arms have its decision, and no test beside it."""
    made = make_report(narrowly_different().study())
    table, finding = made.tables[0], made.answer.findings[0]
    compared = {row.cells["level"].text: row for row in table.rows if not row.baseline}  # type: ignore[union-attr]
    assert {level: row.decision for level, row in compared.items()} == {
        "1": "differs", "2": "equivalent", "8": "equivalent", "fine-tuner alone": "differs",
    }  # fmt: skip
    assert not {"p", "detectable"} & {column.key for column in table.columns}
    frame = pl.read_csv(csv_text(table).encode())
    assert frame["decision"].to_list() == ["differs", "equivalent", None, "equivalent", "differs"]
    assert finding.verdict is Verdict.DIFFERS and finding.certain
    assert finding.text.startswith(
        "Different from 4, in points of H: 1 (+0.6 ± 0.4, after 10 seeds)"
    )
    assert "Equivalent to 4: 2 (+0.2 ± 0.6, after 5 seeds) and 8 (" in finding.text
    assert "against fine-tuner alone (differs)" in made.answer.findings[1].text
    for form in ("terminal", "markdown", "latex", "csv"):
        for other in ("Holm", "seeds more", "told from 0", "beyond chance", "MDE"):
            assert other not in text_of(form, made)


def test_what_is_not_decided_says_so() -> None:
    """Before the first look there is no interval; without a spread none either, and no p."""
    build = stopped()
    build.detect = {**DETECT, "comparisons": 5}
    build.trial({N_CTX: 16}, {seed: scores(55 + seed) for seed in range(3)}, want=False)
    build.want({N_CTX: 16}, seeds=range(3))
    same = build.runs[2]  # of the baseline
    build.trial({}, {seed: {} for seed in range(12)}, arm="no_synthetic")
    build.runs[-1].metrics.update(same.metrics)
    made = make_report(build.study())
    rows = rows_of(made.tables[0])
    for level, decision, words in (
        ("16", "open", "open"),
        ("fine-tuner alone", "constant", "no spread"),
    ):
        row = rows[level]
        assert row.decision == decision and row.cells["decision"] == Text(words)
        estimate = row.cells["difference"].estimate  # type: ignore[union-attr]
        assert (estimate.low, estimate.high) == (None, None)
    text = made.answer.findings[0].text
    assert "Undecided: " in text and "16 (" in text and "after 3 seeds)" in text


def test_headlines_have_no_interval_beside_the_design_s() -> None:
    """The best setting's to the baseline is the table's; to an arm there is none."""
    made = make_report(narrowly_different().study())
    shown = make_publication(made).metrics
    estimate = rows_of(made.tables[0])["1"].cells["difference"].estimate  # type: ignore[union-attr]
    head = "headline/vs_baseline/harmonic_mean"
    assert [shown[f"{head}{end}"] for end in ("", "_low", "_high")] == [
        estimate.mean, estimate.low, estimate.high,
    ]  # fmt: skip
    assert "headline/vs_no_synthetic/harmonic_mean" in shown
    assert "headline/vs_no_synthetic/harmonic_mean_low" not in shown


def test_more_levels_than_a_factor_s_table_has() -> None:
    """The table of settings has the design's decisions, too."""
    build = StoreBuilder(
        seeds=range(4),
        factors=[{"key": N_CTX, "levels": list(range(1, 15)), "log": False, "baseline": 2}],
        detect={**DETECT, "comparisons": 13},
    )
    rng = np.random.default_rng(4)
    for n_ctx in range(1, 15):
        moved = 9.0 * (n_ctx == 7)
        build.trial({N_CTX: n_ctx}, {s: scores(55 + moved + rng.normal(0, 0.4)) for s in range(4)})
    table = build_tables(build.study())[0]
    assert table.kind == "settings"
    assert {row.cells["decision"] for row in table.rows if not row.baseline} >= {Text("differs")}
    assert not any("p" in row.cells for row in table.rows)


@pytest.mark.parametrize("metric", ["base", None])
def test_other_metrics_have_the_plain_tests(metric: str | None) -> None:
    """Only what seeds were stopped by has the design's; of another metric a note says so."""
    build = stopped()
    if metric is None:
        build.detect = None
    table = build_tables(build.study(), metric)[0]
    assert not any(row.decision for row in table.rows)
    assert {"p", "detectable"} <= {column.key for column in table.columns}
    told = [note for note in table.notes if "--detect" in note]
    assert len(told) == (metric is not None)
    assert all("of other metrics do not allow for that" in note for note in told)
