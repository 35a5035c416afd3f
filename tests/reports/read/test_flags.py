"""Flags over datasets, and where a collapse of diversity says nothing."""

from typing import Any

import pytest

from reports.tables.build import build_tables
from reports.tables.model import Flagged, Row, Table
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import SEEDS, one_factor

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
