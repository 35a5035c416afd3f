"""The table of quality, and flags: marks at rows, counts in footnotes."""

import pytest

from reports.contract import FLAGS
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import KL, SEEDS, leveled, one_factor


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


def test_footnotes_give_the_thresholds_of_the_method() -> None:
    """The words of the flags agree with the numbers that the method raises them by."""
    flags = pytest.importorskip("ship.quality.flags")
    autoencoder = pytest.importorskip("ship.generators.autoencoder")
    assert flags.COLLAPSED_FRACTION == 0.1 and "a tenth" in FLAGS["diversity_collapse"][1]
    assert f"{flags.GAP_MARGIN} in cosine" in FLAGS["mean_gap"][1]
    assert f"above {autoencoder.ACTIVE_VARIANCE}" in FLAGS["posterior_collapse"][1]
