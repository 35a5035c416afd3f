"""Flags over datasets, and where a collapse of diversity says nothing."""

from typing import Any

import pytest

from reports.tables.build import build_tables
from reports.tables.model import Flagged, Row, Table
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import SEEDS, one_factor, quality

EVERY = list(SEEDS)
COLLAPSED = {"diversity_collapse": EVERY}


def flags_of(table: Table) -> dict[str, tuple[Flagged, ...]]:
    """First label -> flags."""
    return {str(getattr(_label(table, row), "text", "")): row.flags for row in table.rows}


def _label(table: Table, row: Row) -> Any:
    return row.cells[table.columns[0].key]


def marked(table: Table) -> list[str]:
    """The footnotes of flags."""
    return [note for note in table.notes if note.startswith("†")]


@pytest.mark.parametrize("tag_alone", [False, True])
@pytest.mark.parametrize("arm", ["text_feature", "real_pictures"])
def test_reference_arms_cannot_collapse(arm: str, tag_alone: bool) -> None:
    """Text features and few real pictures have no mark and no place in the count."""
    builder = StoreBuilder(name="gen", factors=one_factor("shots", [4, 16], 4))
    for shots in (4, 16):
        results = {s: scores(50.0 + s) | quality(s) for s in SEEDS}
        flags = {"diversity_collapse": [1] if shots == 16 else []}
        builder.trial({"shots": shots}, results, flags=flags)
    same = {s: scores(45.0 + s) | quality(s, 0.95) for s in SEEDS}
    builder.trial({}, same, arm=arm, flags={**COLLAPSED, "mean_gap": [0, 3]})
    if tag_alone:
        for run in builder.runs:
            for key in [key for key in run.metrics if "/flag/" in key]:
                del run.metrics[key]
    label = {"text_feature": "text feature", "real_pictures": "real pictures (ceiling)"}[arm]
    for table in (t for t in build_tables(builder.study()) if t.name != "selected"):
        of = 15 if tag_alone else 5
        assert flags_of(table)[label] == (Flagged("mean_gap", 2, 5),)
        diversity, gap = marked(table)
        assert diversity.startswith("† diversity collapse in 1 of 10 trials")
        assert "(shots 16: 1 of 5)" in diversity
        assert gap.startswith(f"† mean gap in 2 of {of} trials")


@pytest.mark.parametrize(
    ("params", "hit"),
    [
        ({"generator.name": "gaussian_text", "generator.scale": "0.0"}, False),
        ({"generator.name": "gaussian_text", "generator.scale": "0"}, False),
        ({"generator.name": "gaussian_text", "generator.scale": "null"}, True),
        ({"generator.name": "gaussian_text", "generator.scale": "0.01"}, True),
        ({"generator.name": "gaussian_text"}, True),
        ({"generator.name": "vae", "generator.scale": "0.0"}, True),
        ({"generator.name": "real"}, False),
    ],
)
def test_settings_that_are_such_an_arm(params: dict[str, str], hit: bool) -> None:
    """A setting with the generator of such an arm, by its params, is treated like it."""
    builder = StoreBuilder(name="gen", factors=one_factor("generator", ["one", "vae"], "vae"))
    for name in ("one", "vae"):
        flags = {**COLLAPSED, "mean_gap": EVERY} if name == "one" else {"diversity_collapse": []}
        builder.trial({"generator": name}, {s: scores(50.0 + s) for s in SEEDS}, flags=flags)
    builder.runs[0].params.update(params)
    table, *_ = build_tables(builder.study())
    raised = {flag.name for flag in flags_of(table)["one"]}
    assert raised == ({"diversity_collapse", "mean_gap"} if hit else {"mean_gap"})
