"""Sound studies of each kind; tests.reports.render.test_golden has their reports whole."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.reports.analysis.planted import METRIC, drawn
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import (
    KL,
    SEEDS,
    crossed,
    leveled,
    one_factor,
    quality,
)

N_CTX = "generator.n_ctx"
TUNERS = ("coop", "tip_adapter")
DETECT = {"metric": METRIC, "effect": 1.0, "looks": [4, 8, 12], "comparisons": 3}
GIVEN = {1: 4, 2: 8, 4: 12, 8: 12}  # n_ctx -> seeds until it is decided
OPENAI = {"backbone": "ViT-B-16-quickgelu:openai", "dataset": "caltech101"}


def grid_of_two() -> StoreBuilder:
    """Prompt length times fine-tuner; n_ctx 16 gains 2, tip_adapter loses 3, seed s adds s."""
    factors = one_factor(N_CTX, [4, 16], 4) + one_factor("finetuner", TUNERS[::-1], "coop")
    noise = iter(np.linspace(-0.3, 0.3, 12))

    def new(n_ctx: int, tuner: str, s: int) -> float:
        return 50.0 + 2 * (n_ctx == 16) - 3 * (tuner == "tip_adapter") + s + float(next(noise)) * s

    levels = {N_CTX: [4, 16], "finetuner": TUNERS}
    return crossed(levels, new, 3, name="two", factors=factors)


def depending() -> StoreBuilder:
    """A generator that helps with few pictures and harms with many is level on average."""
    rng = np.random.default_rng(2)

    def new(generator: str, shots: int, s: int) -> float:
        gain = (generator == "vae") * (2 if shots == 1 else -2)
        return 50 + gain + s + float(rng.normal(0, 0.2))

    return crossed({"generator": ["none", "vae"], "shots": [1, 4]}, new, 6, name="two")


def conditional() -> StoreBuilder:
    """A factor that one fine-tuner alone has."""
    factors = one_factor("finetuner", TUNERS, "coop") + one_factor("finetuner.alpha", [1, 2], 1)
    builder = StoreBuilder(name="cond", factors=factors, seeds=(0, 1))
    builder.trial({"finetuner": "coop"}, {s: scores(55.0 + s) for s in range(2)})
    for alpha in (1, 2):
        results = {s: scores(50.0 + s + alpha) for s in range(2)}
        builder.trial({"finetuner": "tip_adapter", "finetuner.alpha": alpha}, results)
    return builder


def sampled() -> StoreBuilder:
    """Thirty settings of a tpe study: H falls with the KL weight, n_ctx does nothing."""
    kl = {"key": KL, "levels": None, "log": True, "baseline": 1.0}
    factors = [kl, *one_factor(N_CTX, [1, 2, 4], 4), *one_factor("finetuner", TUNERS, "coop")]
    builder = StoreBuilder(name="joint", factors=factors, sampler="tpe", trials=30, seeds=(0, 1, 2))
    rng = np.random.default_rng(0)
    for place in range(30):
        weight = float(10 ** rng.uniform(-4, -0.1))
        assignment = {KL: weight, N_CTX: int(rng.choice([1, 2, 4])), "finetuner": TUNERS[place % 2]}
        results = {s: scores(50 - 2 * math.log10(weight) + s) for s in range(3)}
        builder.trial(assignment, results, state="PRUNED" if place % 10 == 9 else "COMPLETE")
    return builder.trial({}, {s: scores(45.0 + s) for s in range(3)}, arm="no_synthetic")


def unfinished(trials: int) -> StoreBuilder:
    """Eight of so many drawn settings have run."""
    builder = drawn(2, 8, lambda s: 4 * s["x0"])
    builder.trials, builder.ended = trials, "INTERRUPTED"
    return builder


def with_path() -> StoreBuilder:
    """Twelve drawn settings, the baseline, and what --path then found to be the best by far."""
    builder = drawn(2, 12, lambda s: 4 * s["x0"])
    for assignment, value in (({"x0": 0.5, "x1": 0.5}, 60.0), ({"x0": 0.5, "x1": 0.9}, 90.0)):
        results = {s: {**scores(value), METRIC: value + s / 10} for s in builder.seeds}
        builder.trial(assignment, results, added=True)
    return builder


def stopped(**keys: Any) -> StoreBuilder:
    """Seeds until each is decided: n_ctx 4 is the baseline, 1 is far away, 2 near, 8 between."""
    build = StoreBuilder(**{"seeds": range(12), "detect": DETECT, **keys})
    rng = np.random.default_rng(3)
    for n_ctx, effect in {1: -9.0, 2: 0.0, 4: 0.0, 8: 1.0}.items():
        results = {seed: scores(55 + effect + rng.normal(0, 0.4)) for seed in range(GIVEN[n_ctx])}
        build.trial({N_CTX: n_ctx}, results, want=False)
        build.want({N_CTX: n_ctx}, seeds=range(GIVEN[n_ctx]) if GIVEN[n_ctx] < 12 else None)
    return build


def stopped_of_many() -> StoreBuilder:
    """More levels than a factor's table has."""
    rng, detect = np.random.default_rng(4), {**DETECT, "comparisons": 13}

    def new(n_ctx: int, s: int) -> float:
        return 55 + 9.0 * (n_ctx == 7) + float(rng.normal(0, 0.4))

    return crossed({N_CTX: range(1, 15)}, new, 4, detect=detect)


def undecided() -> StoreBuilder:
    """The same, a level before its first look, and an arm that is the baseline on every seed."""
    build = stopped(detect={**DETECT, "comparisons": 5})
    build.trial({N_CTX: 16}, {seed: scores(55 + seed) for seed in range(3)}, want=False)
    build.want({N_CTX: 16}, seeds=range(3))
    build.trial({}, {seed: {} for seed in range(12)}, arm="no_synthetic")
    build.runs[-1].metrics.update(build.runs[2].metrics)
    return build


def narrowly_different() -> StoreBuilder:
    """n_ctx 1 stops at the last look as different from 4, and by a small step at that."""
    detect = {"metric": METRIC, "effect": 1.0, "looks": [5, 8, 10], "comparisons": 4}
    build = StoreBuilder(seeds=range(10), detect=detect)
    rng = np.random.default_rng(26)
    for n_ctx, moved in {1: 0.9, 2: 0.2, 4: 0.0, 8: 0.4}.items():
        build.trial({N_CTX: n_ctx}, {s: scores(55 + moved + rng.normal(0, 0.5)) for s in range(10)})
    far = {seed: scores(52 + rng.normal(0, 0.5)) for seed in range(10)}
    return build.trial({}, far, arm="no_synthetic")


def searched(**keys: Any) -> StoreBuilder:
    """Two levels of shots under Tip-Adapter-F, whose choices differ from seed to seed."""
    builder = StoreBuilder(name="tip", factors=one_factor("shots", [4, 16], 4), **keys)
    for shots, better in ((4, 0.0), (16, 2.0)):
        results = {s: scores(50.0 + better + s) for s in SEEDS}
        edge = {"grid_edge": [0, 1] if shots == 16 else [], "last_epoch": []}
        run = builder.trial({"shots": shots}, results, flags=edge).runs[-1]
        for seed in SEEDS:
            chosen = 10.0 if seed < 2 and shots == 16 else 3.0
            run.metrics[f"seed_{seed}/selection/alpha"] = chosen
            run.metrics[f"seed_{seed}/selection_epoch"] = float(seed)
    return builder


def quality_followed() -> StoreBuilder:
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
            results[s] = scores(50.0 + 0.5 * moved - 2 * s + rng.normal(0, 0.2)) | made
        builder.trial({KL: weight}, results)
    return builder.trial({}, {s: scores(90.0) | quality(s) for s in SEEDS}, arm="text_feature")


def measured_open_world() -> StoreBuilder:
    """Two levels with base against new pictures."""

    def made(n_ctx: int, s: int) -> dict[str, float]:
        return scores(50.0 + s) | {"openworld_auc": 30.0 + 3 * (n_ctx == 8) + s, "auroc": 80.0 + s}

    return crossed({N_CTX: [4, 8]}, made)


def other_targets() -> StoreBuilder:
    """The targets of cross-dataset are the factor: averages over them are other numbers."""

    def made(targets: list[str], s: int) -> dict[str, float]:
        value = 40.0 + (targets == ["sun397"])
        return {"accuracy": value, "source": 70.0, f"accuracy/{targets[0]}": value}

    return crossed({"targets": [["dtd"], ["sun397"]]}, made, name="to", protocol="cross_dataset")


def published() -> StoreBuilder:
    """CoOp with SHIP on one dataset, and arms, which are methods too."""
    builder = StoreBuilder(factors=[], constants=OPENAI, seeds=(0, 1, 2))
    builder.trial({}, {s: scores(94.0 + s, 98.0) for s in range(3)})
    for arm in ("zero_shot", "no_synthetic", "text_feature"):
        builder.trial({}, {s: scores(90.0, 90.0) for s in range(3)}, arm=arm)
    return builder


def datasets_alone() -> StoreBuilder:
    """The dataset is the only factor."""
    names = ("emoji", "caltech101", "dtd")
    builder = crossed({"dataset": names}, lambda name, s: 50.0 + 5 * names.index(name) + s)
    return builder.trial({}, {s: scores(44.0) for s in SEEDS}, arm="zero_shot")


def datasets_times_two() -> StoreBuilder:
    """Two more factors over two datasets: their effects are of averages, flags stay with rows."""

    def made(dataset: str, name: str, shots: str, s: int) -> dict[str, float]:
        gain = 9 * (name == "wgan") * (shots == "16") + 7 * (dataset == "b")
        return scores(50.0 + gain + s) | quality(s)

    levels = {"dataset": ["a", "b"], "generator": ["vae", "wgan"], "shots": ["4", "16"]}
    builder = crossed(levels, made)
    builder.runs[-1].tags["ship.flags"] = '{"mean_gap": [0, 1, 2, 3, 4]}'
    return builder


def shifted(effects: Mapping[float, float], **fields: Any) -> StoreBuilder:
    """Levels whose new accuracy is moved by so much against 1, the baseline, with little noise."""
    rng = np.random.default_rng(5)
    builder = leveled({1: 55.0, **effects}, KL, 8, name="kl", **fields)
    for run, effect in zip(builder.runs, (0.0, *effects.values()), strict=True):
        for s in range(8):
            made = scores(55 + s + effect + float(rng.normal(0, 0.3)))
            run.metrics.update({f"seed_{s}/test/{n}": value for n, value in made.items()})
    return builder


def grid_of(
    new: Callable[[int, int, int], float], collapsed: Sequence[int] = (), key: str = KL
) -> StoreBuilder:
    """KL weights 0, 1 and 2 times n_ctx 0 and 1, four seeds, whose new accuracy is given.

    collapsed: weights at which all posteriors collapse.
    """
    builder = crossed({key: [0, 1, 2], N_CTX: [0, 1]}, new, 4, name="same")
    for place, run in enumerate(builder.runs):
        for s in range(4):
            run.metrics[f"seed_{s}/test/flag/posterior_collapse"] = float(place // 2 in collapsed)
    return builder


def of_n_ctx(kl: int, n_ctx: int, seed: int) -> float:
    """New accuracy that kl_weight has no part in."""
    return 50 + seed + n_ctx * (1 + seed % 3)
