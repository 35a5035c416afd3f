"""Flags that cannot be read, and the words of those that can."""

import pytest

from reports.contract import FLAGS
from tests.reports.studies import KL, leveled


def test_unreadable_flags_are_a_warning() -> None:
    """A broken tag costs the flags, not the report."""
    builder = leveled({1: 50.0}, KL, 1)
    builder.runs[0].tags["ship.flags"] = "[1"
    study = builder.study()
    assert study.warnings == ("run run0: ship.flags unreadable, its flags left out",)
    assert study.rows["state"].to_list() == ["COMPLETE"]


def test_footnotes_give_the_thresholds_of_the_method() -> None:
    """The words of the flags agree with the numbers that the method raises them by."""
    flags = pytest.importorskip("ship.quality")
    vae = pytest.importorskip("ship.generators.vae")
    assert flags.COLLAPSED_FRACTION == 0.1 and "a tenth" in FLAGS["diversity_collapse"][1]
    assert f"{flags.GAP_MARGIN} in cosine" in FLAGS["mean_gap"][1]
    assert f"above {vae.ACTIVE_VARIANCE}" in FLAGS["posterior_collapse"][1]
