"""The table of quality, and flags: marks at rows, counts in footnotes."""

import csv
import io
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.contract import FLAGS, ReportError
from reports.render.plain import csv_text, markdown
from reports.stats import holm
from reports.tables.build import build_tables
from reports.tables.model import Row, Table, Text
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import KL, SEEDS, collapsing, leveled, one_factor, quality


def quality_of(builder: Any) -> Table:
    """The study's table of quality."""
    return next(table for table in build_tables(builder.study()) if table.name == "quality")


def labels(table: Table) -> list[str]:
    """The first label of each row."""
    texts = (row.cells[table.columns[0].key] for row in table.rows)
    return [text.text for text in texts if isinstance(text, Text)]


def by_label(table: Table) -> dict[str, Row]:
    """First label -> row."""
    return dict(zip(labels(table), table.rows, strict=True))


def test_pseudo_new_classes_and_errors_are_in_the_csv() -> None:
    """What was measured on the selection pictures has columns of its own, for programs."""
    table = quality_of(collapsing())
    row = next(csv.DictReader(io.StringIO(csv_text(table))))
    chosen = sum(quality(s)["quality/frechet"] for s in SEEDS) / 5 - 3
    assert float(row["pseudo_new_frechet_mean"]) == pytest.approx(chosen)
    assert float(row["frechet_error_mean"]) == pytest.approx(0.012)
    assert float(row["real_diversity_mean"]) == pytest.approx(0.52)
    assert "pseudo_new" not in markdown([table])


def test_flags_of_the_tag_alone_count_all_finished_rows() -> None:
    """A store without a 0 for flags not raised has looked everywhere."""
    builder = leveled({0.1: 50.0, 1: 50.0}, KL, 5)
    builder.runs[1].tags["ship.flags"] = '{"some_new_flag": [0, 4]}'
    builder.trial({KL: 1}, {5: {}}, state="FAIL")
    expected = "† some new flag in 2 of 10 trials, one a seed (kl_weight 1: 2 of 5)"
    assert expected in build_tables(builder.study())[0].notes


def test_a_flag_that_everything_raised_counts_what_could_raise_it() -> None:
    """Where all generators collapsed, rows without one do not make it look rarer."""
    factors = one_factor("generator", ["none", "vae"], "none")
    builder = StoreBuilder(name="gen", factors=factors)
    builder.trial({"generator": "none"}, {s: scores(50.0 + s) for s in SEEDS})
    results = {s: scores(51.0 + s) for s in SEEDS}
    builder.trial({"generator": "vae"}, results, flags={"posterior_collapse": list(SEEDS)})
    table, *_ = build_tables(builder.study())
    (note,) = [note for note in table.notes if note.startswith("†")]
    assert note.startswith("† posterior collapse in 5 of 5 trials")


def test_unreadable_flags_are_a_warning() -> None:
    """A broken tag costs the flags, not the report."""
    builder = leveled({1: 50.0}, KL, 1)
    builder.runs[0].tags["ship.flags"] = "[1"
    study = builder.study()
    assert study.warnings == ("run run0: ship.flags unreadable, its flags left out",)
    assert study.rows["state"].to_list() == ["COMPLETE"]


def test_many_flagged_rows_are_named_in_part() -> None:
    """A footnote names four rows and counts the others."""
    builder = leveled({0.1 * n: 50.0 for n in range(1, 8)}, KL, 1)
    for run in builder.runs:
        run.tags["ship.flags"] = '{"mean_gap": [0]}'
    (note,) = [n for n in build_tables(builder.study())[0].notes if n.startswith("†")]
    assert "7 of 7 trials" in note
    assert note.count("1 of 1") == 4 and "; 3 more rows)" in note


def test_footnotes_give_the_thresholds_of_the_method() -> None:
    """The words of the flags agree with the numbers that the method raises them by."""
    flags = pytest.importorskip("ship.quality.flags")
    autoencoder = pytest.importorskip("ship.generators.autoencoder")
    assert flags.COLLAPSED_FRACTION == 0.1 and "a tenth" in FLAGS["diversity_collapse"][1]
    assert f"{flags.GAP_MARGIN} in cosine" in FLAGS["mean_gap"][1]
    assert f"above {autoencoder.ACTIVE_VARIANCE}" in FLAGS["posterior_collapse"][1]


def test_a_measure_may_be_the_metric() -> None:
    """Differences, p and MDE of the measure, with decimals of its own; told what it is."""
    builder = collapsing()
    table = build_tables(builder.study(), "quality/diversity")[0]
    cells = by_label(table)["1"].cells
    own = [quality(s, 0.9 * (s in (0, 2, 4)))["quality/diversity"] - 0.31 for s in SEEDS]
    assert cells["difference"].estimate.mean == pytest.approx(sum(own) / 5)
    assert cells["difference"].decimals == 3 == cells["quality/diversity"].decimals
    # beside a level that differs by nothing, and an arm that differs by the same on every seed
    family = [1.0, float(stats.ttest_1samp(own, 0).pvalue), 2.0**-4]
    assert cells["p"].p == pytest.approx(holm(family)[1])
    assert cells["detectable"].decimals == 3
    (column,) = (c for c in table.columns if c.key == "difference")
    assert column.heading == "Δdiversity"
    assert any(note.startswith("diversity / real: cosine distance") for note in table.notes)


def test_a_measure_that_was_not_taken_lists_those_that_were() -> None:
    """One line with the protocol's metrics and the measures."""
    with pytest.raises(ReportError, match=r"no test metric 'quality/beauty'.*ausuc.*quality/mmd"):
        build_tables(collapsing().study(), "quality/beauty")
    with pytest.raises(ReportError, match=r"no test metric 'beauty'.*ausuc.*quality/mmd"):
        build_tables(collapsing().study(), "beauty")


def planted(slope: float) -> StoreBuilder:
    """Five settings whose H follows syn.→real, and whose Fréchet distance goes its own way."""
    levels = (0.001, 0.01, 0.1, 1, 10)
    builder = StoreBuilder(name="kl", factors=one_factor(KL, levels, 0.1))
    for place, weight in enumerate(levels):
        results = {}
        for s in SEEDS:
            rng = np.random.default_rng([s, place])
            moved = 4.0 * place + rng.normal(0, 1)
            made = quality(s) | {
                "quality/synthetic_to_real": 40 + moved + 3 * s,
                "quality/frechet": 0.4 + rng.normal(0, 0.1),
            }
            results[s] = scores(50.0 + slope * moved - 2 * s + rng.normal(0, 0.2)) | made
        builder.trial({KL: weight}, results)
    return builder.trial({}, {s: scores(90.0) | quality(s) for s in SEEDS}, arm="text_feature")


def test_the_measure_that_h_follows_is_found() -> None:
    """Within each seed, though seeds move both the other way; the arm is no setting."""
    table = next(t for t in build_tables(planted(0.5).study()) if t.name == "quality-response")
    rows = {row.cells["measure"].text: row.cells for row in table.rows}
    followed, other = rows["syn.→real"], rows["Fréchet"]
    assert followed["rho"].estimate.mean > 0.8 and followed["p"].p < 0.01
    assert followed["n"].number == 5 and followed["settings"].number == 5
    assert followed["slope"].estimate.low > 0
    assert other["p"].p > 0.05
    assert (followed["rho"].estimate.high or 1.0) <= 1


def test_measures_that_do_not_vary_and_few_settings_have_no_response() -> None:
    """Three settings are no trend; the text's cosine is the same for each."""
    assert "quality-response" not in [t.name for t in build_tables(collapsing().study())]
    table = next(t for t in build_tables(planted(0.5).study()) if t.name == "quality-response")
    assert "diversity" not in [row.cells["measure"].text for row in table.rows]
