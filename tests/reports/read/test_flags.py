"""Flags over datasets, and where a collapse of diversity says nothing."""

import pytest

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
