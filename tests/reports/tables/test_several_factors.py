"""Tables of several factors: grids, sampled studies, and what holds for every table."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from reports.report import make_report
from reports.tables.build import build_tables
from reports.tables.model import Counts, Quantity, Text
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.studies import few_shot, leveled, one_factor, over_datasets
from tests.reports.tables.cells import cells_of, numbers

N_CTX = "generator.n_ctx"
TUNERS = ("coop", "tip_adapter")


def grid_of_two() -> StoreBuilder:
    """Prompt length times fine-tuner; n_ctx 16 gains 2, tip_adapter loses 3, seed s adds s."""
    factors = one_factor(N_CTX, [4, 16], 4) + one_factor("finetuner", TUNERS[::-1], "coop")
    builder = StoreBuilder(name="two", factors=factors, seeds=(0, 1, 2))
    noise = iter(np.linspace(-0.3, 0.3, 12))
    for n_ctx in (4, 16):
        for finetuner in ("coop", "tip_adapter"):
            new = 50.0 + 2 * (n_ctx == 16) - 3 * (finetuner == "tip_adapter")
            results = {s: scores(new + s + float(next(noise)) * s) for s in range(3)}
            builder.trial({N_CTX: n_ctx, "finetuner": finetuner}, results)
    return builder


def sampled() -> StoreBuilder:
    """Thirty settings of a tpe study: H falls with the KL weight, n_ctx does nothing."""
    kl = {"key": "generator.kl_weight", "levels": None, "log": True, "baseline": 1.0}
    factors = [kl, *one_factor(N_CTX, [1, 2, 4], 4), *one_factor("finetuner", TUNERS, "coop")]
    builder = StoreBuilder(name="joint", factors=factors, sampler="tpe", trials=30, seeds=(0, 1, 2))
    rng = np.random.default_rng(0)
    for place in range(30):
        weight = float(10 ** rng.uniform(-4, -0.1))
        length, tuner = int(rng.choice([1, 2, 4])), TUNERS[place % 2]
        assignment = {"generator.kl_weight": weight, N_CTX: length, "finetuner": tuner}
        state = "PRUNED" if place % 10 == 9 else "COMPLETE"
        results = {s: scores(50 - 2 * math.log10(weight) + s) for s in range(3)}
        builder.trial(assignment, results, state=state)
    builder.trial({}, {s: scores(45.0 + s) for s in range(3)}, arm="no_synthetic")
    return builder


LEAKY: dict[str, Callable[[], StoreBuilder]] = {
    "levels": prompt_len, "grid": grid_of_two, "sampled": sampled,
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


def test_grid_of_two_factors() -> None:
    """All settings by selection objective, then each factor's main effects."""
    settings, n_ctx, finetuner, *_ = build_tables(grid_of_two().study())
    labels = [(r.cells[N_CTX].text, r.cells["finetuner"].text) for r in settings.rows]
    assert labels == [("16", "coop"), ("4", "coop"), ("16", "tip_adapter"), ("4", "tip_adapter")]
    assert [row.baseline for row in settings.rows] == [False, True, False, False]
    assert [row.cells["level"].text for row in n_ctx.rows] == ["4", "16"]
    assert [row.cells["level"].text for row in finetuner.rows] == ["tip_adapter", "coop"]
    sixteen = cells_of(n_ctx, "16").cells
    assert sixteen["n"] == Counts(6)
    assert sixteen["seeds"] == Quantity(3, 0)
    assert sixteen["difference"].estimate.n == 3


def test_main_effects_compare_matched_settings() -> None:
    """Where a setting failed, its counterpart at the other level leaves the difference too."""
    whole, torn = grid_of_two(), grid_of_two()
    torn.runs[3].tags["ship.state"] = "FAIL"
    rows = whole.study().rows
    coop = rows.filter(rows["finetuner"] == "coop")
    expected = (
        coop.filter(coop[N_CTX] == 16)["test/harmonic_mean"]
        - coop.filter(coop[N_CTX] == 4)["test/harmonic_mean"]
    ).mean()
    _, n_ctx, *_ = build_tables(torn.study())
    assert cells_of(n_ctx, "16").cells["difference"].estimate.mean == pytest.approx(expected)
    assert cells_of(n_ctx, "16").cells["n"] == Counts(3, failed=3)


def test_conditional_factors_are_averaged_over() -> None:
    """A factor that only one fine-tuner has does not keep the fine-tuners from being compared."""
    factors = one_factor("finetuner", TUNERS, "coop") + one_factor("finetuner.alpha", [1, 2], 1)
    builder = StoreBuilder(name="cond", factors=factors, seeds=(0, 1))
    builder.trial({"finetuner": "coop"}, {s: scores(55.0 + s) for s in range(2)})
    for alpha in (1, 2):
        results = {s: scores(50.0 + s + alpha) for s in range(2)}
        builder.trial({"finetuner": "tip_adapter", "finetuner.alpha": alpha}, results)
    settings, finetuner, *_ = build_tables(builder.study())
    assert cells_of(finetuner, "tip_adapter").cells["difference"].estimate.n == 2
    assert cells_of(settings, "coop").cells["finetuner.alpha"] == Text("–")


def test_sampled_study() -> None:
    """Ten best settings shown, all held, ranks of each factor below; pruned ones rank nowhere."""
    settings, ranks, *_ = build_tables(sampled().study())
    shown = dict(settings.sections())
    assert (len(shown["levels"]), len(settings.rows)) == (10, 31)
    best = [row.cells["objective"].estimate.mean for row in shown["levels"]]
    assert best == sorted(best, reverse=True)
    assert cells_of(settings, "fine-tuner alone").baseline
    rho = ranks.rows[0].cells["rho"].estimate
    assert rho.mean == pytest.approx(-1.0)
    assert ranks.rows[0].cells["p"].p < 0.001
    assert [row.cells["n"] for row in ranks.rows] == [Quantity(27, 0)] * 3
    assert "rho" not in ranks.rows[2].cells and "p" in ranks.rows[2].cells
    assert build_tables(sampled().study())[:2] == [settings, ranks]


def test_a_large_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its best settings are shown, all held, and the note says so."""
    monkeypatch.setattr("reports.tables.ablation.MOST", 100)
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


KL_RANGE = [{"key": "generator.kl_weight", "levels": None, "log": True, "baseline": None}]


def test_study_without_factors() -> None:
    """One setting and its arms make a table too."""
    builder = StoreBuilder(factors=(), seeds=(0, 1)).trial(
        {}, {s: scores(55.0 + s) for s in range(2)}
    )
    table, *_ = build_tables(builder.study())
    assert table.rows[0].cells["setting"] == Text("constants")
    assert table.rows[0].cells["n"] == Counts(2)


def test_no_number_is_nan() -> None:
    """Every number of every table is finite, whatever a run logged."""
    odd = prompt_len()
    for run in odd.runs[::2]:
        run.metrics["seed_1/test/new"] = math.nan
        run.metrics["seed_2/selection/harmonic_mean"] = math.inf
        run.metrics["cost/seconds"] = math.nan
    studies = [odd, grid_of_two(), sampled()]
    for builder in studies:
        found = [x for table in build_tables(builder.study()) for x in numbers(table)]
        assert found
        assert all(map(math.isfinite, found))


@pytest.mark.parametrize(
    ("finished", "told"),
    [
        (2, "a dash: 2 of 14 settings finished, ranks need 3 (12 failed, were stopped early"),
        (14, ""),
    ],
)
def test_a_ranking_without_ranks_says_why(finished: int, told: str) -> None:
    """A scheduler may stop so many settings that too few are left to rank."""
    values = {0.07 * (place + 1): 50.0 + place for place in range(14)}
    builder = leveled(values, "generator.kl_weight", factors=KL_RANGE, sampler="tpe", trials=14)
    for run in builder.runs[finished:]:
        run.tags["ship.state"] = "PRUNED"
    ranks = next(table for table in build_tables(builder.study()) if table.name == "ranks")
    notes = [note for note in ranks.notes if note.startswith("a dash: ")]
    assert [note[: len(told)] for note in notes] == ([told] if told else [])
