"""Sound studies and studies with accidents that are computed, beside those that stand in YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.store import Run
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.studies import (
    KL,
    SEEDS,
    collapsing,
    cross_dataset,
    crossed,
    few_shot,
    leveled,
    one_factor,
    over_datasets,
    quality,
)


def searched(edges: bool = True, **keys: Any) -> StoreBuilder:
    """Two levels of shots under Tip-Adapter-F, whose choices differ from seed to seed.

    edges: whether alpha is searched; a configured one is no choice, so that no edge is flagged.
    """
    builder = StoreBuilder(name="tip", factors=one_factor("shots", [4, 16], 4), **keys)
    for shots, better in ((4, 0.0), (16, 2.0)):
        results = {s: scores(50.0 + better + s) for s in SEEDS}
        flags = {"grid_edge": [0, 1] if shots == 16 else []} if edges else {}
        run = builder.trial({"shots": shots}, results, flags={**flags, "last_epoch": []}).runs[-1]
        for seed in SEEDS:
            chosen = 10.0 if seed < 2 and shots == 16 else 3.0
            run.metrics[f"selection/alpha/seed_{seed}"] = chosen
            run.metrics[f"selection_epoch/seed_{seed}"] = float(seed)
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
            metrics = quality(s) | {
                "quality/synthetic_to_real": 40 + moved + 3 * s,
                "quality/frechet": 0.4 + rng.normal(0, 0.1),
            }
            results[s] = scores(50.0 + 0.5 * moved - 2 * s + rng.normal(0, 0.2)) | metrics
        builder.trial({KL: weight}, results)
    return builder.trial({}, {s: scores(90.0) | quality(s) for s in SEEDS}, control="text_feature")


def flag(run: Run, name: str, raised: Sequence[int], seeds: Sequence[int]) -> None:
    """Let a run log a flag of each of its seeds."""
    run.metrics.update({f"test/flag/{name}/seed_{s}": float(s in raised) for s in seeds})


def datasets_times_two() -> StoreBuilder:
    """Two more factors over two datasets: their effects are of averages, flags stay with rows."""

    def metrics(dataset: str, name: str, shots: str, s: int) -> dict[str, float]:
        gain = 9 * (name == "wgan") * (shots == "16") + 7 * (dataset == "b")
        return scores(50.0 + gain + s) | quality(s)

    levels = {"dataset": ["a", "b"], "generator": ["vae", "wgan"], "shots": ["4", "16"]}
    builder = crossed(levels, metrics)
    for run in builder.runs:
        flag(run, "mean_gap", SEEDS if run is builder.runs[-1] else (), SEEDS)
    return builder


def shifted(effects: Mapping[float, float], **fields: Any) -> StoreBuilder:
    """Levels whose new accuracy is moved by so much against 1, the baseline, with little noise."""
    rng = np.random.default_rng(5)
    builder = leveled({1: 55.0, **effects}, KL, 8, name="kl", **fields)
    for run, effect in zip(builder.runs, (0.0, *effects.values()), strict=True):
        for s in range(8):
            metrics = scores(55 + s + effect + float(rng.normal(0, 0.3)))
            run.metrics.update({f"test/{n}/seed_{s}": value for n, value in metrics.items()})
    return builder


STUDIES = {
    make.__name__: make
    for make in (
        prompt_len, leveled, few_shot, cross_dataset, collapsing, over_datasets, searched,
        quality_followed, datasets_times_two, shifted,
    )
}  # fmt: skip
