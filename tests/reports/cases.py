"""Simulated studies by name. tests.reports.yaml_studies has those that are defined in YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.store import Run
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores
from tests.reports.studies import (
    KL,
    SEEDS,
    make_collapsing_study,
    make_cross_dataset_study,
    make_factors,
    make_few_shot_study,
    make_grid_study,
    make_multi_dataset_study,
    make_one_factor_study,
    make_quality,
)


def make_tuned_at_inference(has_grid_edges: bool = True, **fields: Any) -> StoreBuilder:
    """Build a study of shots in which selection chooses alpha and the epoch of each seed.

    Args:
        has_grid_edges: Whether runs log the flag grid_edge.
        fields: Fields of StoreBuilder.
    """
    builder = StoreBuilder(name="tip", factors=make_factors("shots", [4, 16], 4), **fields)
    for shots, gain in ((4, 0.0), (16, 2.0)):
        results = {s: make_scores(50.0 + gain + s) for s in SEEDS}
        flags: dict[str, list[int]] = {"last_epoch": []}
        if has_grid_edges:
            flags["grid_edge"] = [0, 1] if shots == 16 else []
        run = builder.add_run({"shots": shots}, results, flags=flags).runs[-1]
        for seed in SEEDS:
            alpha = 10.0 if seed < 2 and shots == 16 else 3.0
            run.metrics[f"selection/alpha/seed_{seed}"] = alpha
            run.metrics[f"selection_epoch/seed_{seed}"] = float(seed)
    return builder


def make_correlated_quality() -> StoreBuilder:
    """Build a study of KL weights in which H is correlated with one quality metric.

    H depends on the accuracy syn.→real, and is independent of the Fréchet distance.
    """
    levels = (0.001, 0.01, 0.1, 1, 10)
    builder = StoreBuilder(name="kl", factors=make_factors(KL, levels, 0.1))
    for position, weight in enumerate(levels):
        results = {}
        for s in SEEDS:
            rng = np.random.default_rng([s, position])
            shift = 4.0 * position + rng.normal(0, 1)
            metrics = make_quality(s) | {
                "quality/synthetic_to_real": 40 + shift + 3 * s,
                "quality/frechet": 0.4 + rng.normal(0, 0.1),
            }
            results[s] = make_scores(50.0 + 0.5 * shift - 2 * s + rng.normal(0, 0.2)) | metrics
        builder.add_run({KL: weight}, results)
    return builder.add_run(
        {}, {s: make_scores(90.0) | make_quality(s) for s in SEEDS}, control="text_feature"
    )


def add_flag(run: Run, name: str, flagged_seeds: Sequence[int], seeds: Sequence[int]) -> None:
    """Log a flag of each seed of a run: 1 for the flagged seeds and 0 for the others."""
    run.metrics.update({f"test/flag/{name}/seed_{s}": float(s in flagged_seeds) for s in seeds})


def make_two_factors_over_datasets() -> StoreBuilder:
    """Build a study of two datasets, two generators and two numbers of shots.

    Its last run has the flag mean_gap under every seed.
    """

    def make_metrics(dataset: str, generator: str, shots: str, seed: int) -> dict[str, float]:
        gain = 9 * (generator == "wgan") * (shots == "16") + 7 * (dataset == "b")
        return make_scores(50.0 + gain + seed) | make_quality(seed)

    levels = {"dataset": ["a", "b"], "generator": ["vae", "wgan"], "shots": ["4", "16"]}
    builder = make_grid_study(levels, make_metrics)
    for run in builder.runs:
        flagged_seeds = SEEDS if run is builder.runs[-1] else ()
        add_flag(run, "mean_gap", flagged_seeds, SEEDS)
    return builder


def make_shifted_levels(effects: Mapping[float, float], **fields: Any) -> StoreBuilder:
    """Build a study of KL weights with known effects on the new accuracy and little noise.

    Args:
        effects: Effect of each level, compared with the baseline 1.
        fields: Fields of StoreBuilder.
    """
    rng = np.random.default_rng(5)
    builder = make_one_factor_study({1: 55.0, **effects}, KL, 8, name="kl", **fields)
    for run, effect in zip(builder.runs, (0.0, *effects.values()), strict=True):
        for s in range(8):
            metrics = make_scores(55 + s + effect + float(rng.normal(0, 0.3)))
            run.metrics.update({f"test/{name}/seed_{s}": v for name, v in metrics.items()})
    return builder


# By the names that render/reports.yaml uses.
STUDIES = {
    make.__name__.removeprefix("make_"): make
    for make in (
        make_prompt_len,
        make_one_factor_study,
        make_few_shot_study,
        make_cross_dataset_study,
        make_collapsing_study,
        make_multi_dataset_study,
        make_tuned_at_inference,
        make_correlated_quality,
        make_two_factors_over_datasets,
        make_shifted_levels,
    )
}
