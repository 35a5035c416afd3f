"""Tables of several factors: grids, sampled studies, and what holds for every table."""

import math
from collections.abc import Callable
from importlib import import_module
from itertools import product

import pytest

from reports.report import make_report
from reports.tables.build import build_tables
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.listed import listed
from tests.reports.studies import few_shot, one_factor, over_datasets
from tests.reports.tables.cells import numbers

N_CTX = "generator.n_ctx"
LEAKY: dict[str, Callable[[], StoreBuilder]] = {
    "levels": prompt_len, "grid": lambda: listed("grid"), "sampled": lambda: listed("sampled"),
    "datasets": over_datasets, "few shot": few_shot,
}  # fmt: skip


@pytest.mark.parametrize("shape", LEAKY)
def test_selected_on_test_is_said_of_every_table(shape: str) -> None:
    """Title, footnote and every row of every table carry the leak; an analysis its title."""
    builder = LEAKY[shape]()
    for run in builder.runs:
        run.tags["ship.selection"] = "test"
    made = make_report(builder.study())
    for table in (one for one in made.every_table if one.place != "csv"):
        assert table.title.endswith("(selected on test)")
    for table in (one for one in made.tables if one.place != "csv"):
        assert table.notes[0].startswith("selected on test")
        assert {row.selection for row in table.rows} == {"test"}


def test_a_large_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its best settings are shown, all held, and the note says so."""
    monkeypatch.setattr(import_module("reports.tables.families"), "MOST", 100)
    levels = list(range(1, 12))
    factors = one_factor(N_CTX, levels, 1) + one_factor("generator.latent_dim", levels, 1)
    builder = StoreBuilder(name="large", factors=factors, seeds=(0,))
    for first, second in product(levels, levels):
        results = {0: scores(40.0 + first + second / 20)}
        builder.trial({N_CTX: first, "generator.latent_dim": second}, results)
    settings, *_ = build_tables(builder.study())
    shown = dict(settings.sections())["levels"]
    assert (len(shown), len(settings.rows)) == (100, 121)
    assert "the best 100 of 121 settings shown; the CSV holds all" in settings.notes
    assert max(row.cells["objective"].estimate.mean for row in settings.rows[100:]) <= min(
        row.cells["objective"].estimate.mean for row in shown
    )


def test_no_number_is_nan() -> None:
    """Every number of every table is finite, whatever a run logged."""
    odd = prompt_len()
    for run in odd.runs[::2]:
        run.metrics["seed_1/test/new"] = math.nan
        run.metrics["seed_2/selection/harmonic_mean"] = math.inf
        run.metrics["cost/seconds"] = math.nan
    studies = [odd, listed("grid"), listed("sampled")]
    for builder in studies:
        found = [x for table in build_tables(builder.study()) for x in numbers(table)]
        assert found
        assert all(map(math.isfinite, found))
