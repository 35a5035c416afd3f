"""Flags: where a collapse of diversity says nothing, which cannot be read, and their words."""

import pytest

from reports.contract import FLAGS
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import SEEDS, one_factor
from tests.reports.tables.cells import cells_of
from tests.told import told


@pytest.mark.parametrize(("params", "hit"), told(__file__, "flags.yaml"))
def test_settings_that_are_such_an_arm(params: dict[str, str], hit: bool) -> None:
    """A setting with the generator of such an arm, by its params, is treated like it."""
    builder = StoreBuilder(name="gen", factors=one_factor("generator", ["one", "vae"], "vae"))
    results = {s: scores(50.0 + s) for s in SEEDS}
    builder.trial(
        {"generator": "one"}, results, flags={"diversity_collapse": SEEDS, "mean_gap": SEEDS}
    )
    builder.trial({"generator": "vae"}, results)
    builder.runs[0].params.update(params)
    table, *_ = build_tables(builder.study())
    raised = {flag.name for flag in cells_of(table, "one").flags}
    assert raised == ({"diversity_collapse", "mean_gap"} if hit else {"mean_gap"})


def test_footnotes_give_the_thresholds_of_the_method() -> None:
    """The words of the flags agree with the numbers that the method raises them by."""
    flags = pytest.importorskip("ship.quality")
    vae = pytest.importorskip("ship.generators.vae")
    assert flags.COLLAPSED_FRACTION == 0.1 and "a tenth" in FLAGS["diversity_collapse"][1]
    assert f"{flags.GAP_MARGIN} in cosine" in FLAGS["mean_gap"][1]
    assert f"above {vae.ACTIVE_VARIANCE}" in FLAGS["posterior_collapse"][1]
