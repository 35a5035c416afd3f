"""Studies with accidents and leaks; tests.reports.render.test_golden has their reports whole."""

from collections.abc import Mapping, Sequence

import numpy as np

from tests.reports.analysis.planted import METRIC, grid, levelled, nothing, planted
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.cases import N_CTX, grid_of, searched
from tests.reports.studies import (
    KL,
    SEEDS,
    crossed,
    leveled,
    one_factor,
    one_softmax,
    over_datasets,
)


def state(builder: StoreBuilder, places: slice, name: str) -> StoreBuilder:
    """Some of a study's runs have ended in another state."""
    for run in builder.runs[places]:
        run.tags["ship.state"] = name
    return builder


def without(builder: StoreBuilder, *texts: str) -> StoreBuilder:
    """No run has logged a metric with such a text in its name."""
    for run in builder.runs:
        for key in [key for key in run.metrics if any(text in key for text in texts)]:
            del run.metrics[key]
    return builder


def selecting(builder: StoreBuilder, rules: Sequence[str]) -> StoreBuilder:
    """The runs are selected by these rules in turn."""
    for place, run in enumerate(builder.runs):
        run.tags["ship.selection"] = rules[place % len(rules)]
    return builder


def weakened() -> StoreBuilder:
    """Few seeds, selected on test, and settings and arms that have not finished."""
    builder = prompt_len(selection="test", seeds=(0, 1, 2))
    builder.trial({N_CTX: 32}, {0: {}}, state="FAIL", reason="worker died")
    state(builder, slice(1), "PRUNED")
    return state(builder, slice(5, 7), "FAIL")


def with_gap() -> StoreBuilder:
    """A grid of which one setting did not run."""
    cells = [{"f0": a, "f1": b} for a in range(2) for b in range(3) if (a, b) != (1, 0)]
    rng = np.random.default_rng(0)
    builder = planted(levelled((2, 3)), cells, lambda s: 9.0 * s["f0"] + s["f1"], 5, rng)
    return builder.want({"f0": 1, "f1": 0})


def few_finished() -> StoreBuilder:
    """A scheduler stopped so many settings that too few are left to rank."""
    values = {0.07 * (place + 1): 50.0 + place for place in range(14)}
    factors = [{"key": KL, "levels": None, "log": True, "baseline": None}]
    builder = leveled(values, KL, factors=factors, sampler="tpe", trials=14)
    return state(builder, slice(2, None), "PRUNED")


def all_alike(builder: StoreBuilder) -> StoreBuilder:
    """Every run has the first one's results."""
    for run in builder.runs:
        run.metrics.update(builder.runs[0].metrics)
    return builder


def path_over_datasets() -> StoreBuilder:
    """A method that --path ran on every dataset."""
    builder = over_datasets(("emoji", "dtd"), ("none", "vae"))
    for run in builder.runs:
        if '"vae"' in run.tags["ship.assignment"]:
            run.tags["ship.added"] = "path"
    for entry in builder.wanted or ():
        if entry["assignment"].get("generator") == "vae":
            entry["added"] = "path"
    return builder


def not_searched() -> StoreBuilder:
    """A configured alpha is no choice: without a grid there is no edge that could be flagged."""
    builder = without(searched(), "grid_edge")
    builder.runs[-1].tags.pop("ship.flags")
    return builder


def unselected() -> StoreBuilder:
    """Selection none measures nothing."""
    return without(searched(selection="none"), "/selection/", "grid_edge")


def rules_compared() -> StoreBuilder:
    """Rules of selection, one of which looks at test pictures, whose scores do not compare."""
    levels = {"shots": [1, 4], "selection": ["pseudo_new", "test"]}
    builder = crossed(levels, lambda shots, rule, s: 50 + s + s * shots / 9, 6)
    return selecting(builder, levels["selection"])


def many_flagged() -> StoreBuilder:
    """Flags in the tags alone, of which a footnote names four rows, and one nobody knows."""
    builder = leveled({0.1 * n: 50.0 for n in range(1, 8)}, KL)
    for run in builder.runs:
        run.tags["ship.flags"] = '{"mean_gap": [0], "some_new_flag": [1]}'
    return builder


def baseline_alone() -> StoreBuilder:
    """The fine-tuner alone is the baseline on every seed."""
    builder = prompt_len()
    same = next(run for run in builder.runs if run.tags["ship.assignment"].endswith("4}"))
    alone = next(run for run in builder.runs if run.tags["ship.arm"] == "no_synthetic")
    alone.metrics.update(same.metrics)
    return builder


def cancelling() -> StoreBuilder:
    """KL weight 1 is up with one n_ctx and down by as much with the other."""
    builder, signs = grid_of(lambda kl, n_ctx, s: 50.0 + s), {(1, 0): 2.0, (1, 1): -2.0}
    for run in builder.runs:
        gap = signs.get((int(run.params[KL]), int(run.params[N_CTX])), 0.0)
        for seed in range(4):
            run.metrics[f"seed_{seed}/test/{METRIC}"] = 60.0 + seed + gap
    return builder


def not_calibrated() -> StoreBuilder:
    """base_val has seen classes alone: S on selection, and no constant to calibrate with."""
    builder = StoreBuilder(
        name="kl", factors=one_factor(KL, (0.1, 1), 0.1), protocol="generalized_zero_shot",
        selection="base_val", objective="seen", sampler="random", trials=2,
    )  # fmt: skip
    for weight in (0.1, 1):
        results = {s: one_softmax(60 + s, 50) for s in SEEDS}
        builder.trial({KL: weight}, results, selected={"seen": 58.0 + weight})
    return without(builder, "calibrated")


def between(cells: Mapping[str, tuple[float, float]]) -> StoreBuilder:
    """Settings of two factors, by their two levels, with their H on test and in selection."""
    builder = StoreBuilder(factors=levelled((2, 2)), seeds=range(4))
    for cell, (tested, selected) in cells.items():
        a, b = map(int, cell)
        results = {s: {**scores(60.0), METRIC: tested + s + (a + b) * s / 10} for s in range(4)}
        builder.trial({"f0": a, "f1": b}, results, selected={METRIC: selected})
    return builder


def activating() -> StoreBuilder:
    """A factor that becomes active with another: no study could hold what lies between."""
    factors = one_factor("g", ["none", "vae"], "none") + one_factor("n", [4, 8], 4)
    builder = StoreBuilder(factors=factors, seeds=range(4))
    for place, assignment in enumerate(({"g": "none"}, {"g": "vae", "n": 4}, {"g": "vae", "n": 8})):
        builder.trial(assignment, {s: scores(50.0 + 2 * place + s) for s in range(4)})
    return builder


def swinging() -> StoreBuilder:
    """A factor of many settings whose effect has another sign under each seed."""
    builder = grid((2, 12), nothing, 6, np.random.default_rng(4))
    for run in builder.runs[12:]:
        for seed, swing in enumerate((2.0, -2.0, 1.5, -1.5, 1.0, -1.0)):
            run.metrics[f"seed_{seed}/test/{METRIC}"] += swing
    return builder


def half_active() -> StoreBuilder:
    """A factor that only one level of another has, and that does nothing."""
    levels = [{"g": "none"}, *({"g": "vae", "n": n} for n in (1, 2, 4, 8))]
    factors = one_factor("g", ["none", "vae"], "none") + one_factor("n", [1, 2, 4, 8], 4)
    rng = np.random.default_rng(0)
    return planted(factors, levels, lambda s: 3.0 * (s["g"] == "vae"), 8, rng)


def confounded() -> StoreBuilder:
    """Two factors that always change together, of which neither has a share or a p."""
    cells = [{"f0": a, "f1": a} for a in range(3)]
    return planted(levelled((3, 3)), cells, lambda s: s["f0"], 5, np.random.default_rng(0))


def classes_of_their_own() -> StoreBuilder:
    """Levels that are tested on classes of their own are not compared."""
    levels = ["ant", "bee"]
    cells = [{"unseen_class": name, "f0": level} for name in levels for level in (0, 1)]
    factors = one_factor("unseen_class", levels, "ant") + levelled((2,))
    return planted(factors, cells, nothing, 3, np.random.default_rng(0))


def lost_seeds() -> StoreBuilder:
    """A seed that one setting lacks, and one that all lack."""
    builder = grid((3, 3), lambda s: s["f0"])
    for place, run in enumerate(builder.runs):
        lost = ("seed_4/test/", "seed_2/test/")[: 1 + (place == 4)]
        for key in [key for key in run.metrics if key.startswith(lost)]:
            del run.metrics[key]
    return builder
