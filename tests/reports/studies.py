"""Simulated studies of every protocol, over datasets, and with measured feature quality."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.reports.builder import StoreBuilder, make_scores

KL = "generator.kl_weight"
SEEDS = range(5)


def compute_harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two percentages."""
    return 2 * first * second / (first + second)


def make_factors(key: str, levels: Sequence[Any], baseline: Any) -> list[dict[str, Any]]:
    """Return the factors of a study with one factor."""
    return [{"key": key, "levels": list(levels), "log": False, "baseline": baseline}]


def make_one_factor_study(
    new: Mapping[Any, float], key: str = "generator.n_ctx", seeds: int = 2, by_seed: float = 1.0,
    log: bool = False, **fields: Any,
) -> StoreBuilder:  # fmt: skip
    """Build a study of one factor, whose first level is the baseline.

    Args:
        new: New accuracy of each level.
        key: Key of the factor.
        seeds: Number of seeds.
        by_seed: Seed s adds s times this number to the new accuracy.
        log: Whether the factor has a logarithmic scale.
        fields: Fields of StoreBuilder.
    """
    levels = list(new)
    (factor,) = make_factors(key, levels, levels[0])
    options = {"name": "prompt_len", "factors": [factor | {"log": log}], **fields}
    return make_grid_study(
        {key: levels}, lambda level, s: new[level] + by_seed * s, seeds, **options
    )


def make_grid_study(
    levels: Mapping[str, Sequence[Any]],
    value: Callable[..., float | Mapping[str, float]],
    seeds: int = 5,
    **fields: Any,
) -> StoreBuilder:
    """Build a study of every combination of the factors' levels.

    Args:
        levels: Levels by factor. The first level of each factor is its baseline.
        value: Function of one level per factor and a seed. It returns the new accuracy or all
            metrics.
        seeds: Number of seeds.
        fields: Fields of StoreBuilder.
    """
    factors = []
    for key, key_levels in levels.items():
        factors += make_factors(key, key_levels, key_levels[0])
    builder = StoreBuilder(**{"name": "made", "factors": factors, "seeds": range(seeds), **fields})
    for combination in itertools.product(*levels.values()):
        results = {}
        for seed in range(seeds):
            metrics = value(*combination, seed)
            results[seed] = metrics if isinstance(metrics, Mapping) else make_scores(metrics)
        builder.add_run(dict(zip(levels, combination, strict=True)), results)
    return builder


def make_quality(seed: int, collapse: float = 0.0) -> dict[str, float]:
    """Return quality metrics of a seed. At `collapse` 1, all features of a class are equal."""
    noise = float(np.random.default_rng(seed).normal(0, 0.01))
    values = {
        "cosine_to_mean": 0.81 + noise, "text_cosine_to_mean": 0.74,
        "frechet": 0.412 + noise, "frechet_error": 0.012, "mmd": 0.051 + noise / 10,
        "mmd_error": 0.002, "precision": 0.71 + noise, "recall": 0.43 * (1 - collapse) + noise,
        "density": 0.9 + noise, "coverage": 0.55 + noise, "real_to_synthetic": 91.2 + 10 * noise,
        "synthetic_to_real": 63.4 + 10 * noise, "diversity": 0.31 * (1 - collapse),
        "real_diversity": 0.52, "effective_rank": 41.3 * (1 - collapse) + 1,
        "real_effective_rank": 88.1, "recognized_by_images": 71.5 + 10 * noise,
        "recognized_by_text": 93.0,
    }  # fmt: skip
    return {f"quality/{name}": value for name, value in values.items()}


def make_generalized_metrics(seen: float, unseen: float) -> dict[str, float]:
    """Return the metrics of generalized_zero_shot for accuracies on seen and unseen classes."""
    return {
        "seen": seen, "unseen": unseen, "harmonic_mean": compute_harmonic_mean(seen, unseen),
        "calibrated_seen": seen - 5, "calibrated_unseen": unseen + 6,
        "calibrated_harmonic_mean": compute_harmonic_mean(seen - 5, unseen + 6),
        "ausuc": seen * unseen / 130,
    }  # fmt: skip


def make_collapsing_study(protocol: str = "generalized_zero_shot", **fields: Any) -> StoreBuilder:
    """Build a study of KL weights. The largest one collapses under 3 of 5 seeds.

    All runs have quality metrics and flags, except zero-shot.
    """
    levels = (0.01, 0.1, 1)
    builder = StoreBuilder(
        name="kl", factors=make_factors(KL, levels, 0.1), protocol=protocol, **fields
    )
    for weight in levels:
        collapsed_seeds = [0, 2, 4] if weight == 1 else []
        results = {
            s: make_generalized_metrics(60 + s / 3, 50 + weight + (s % 3))
            | make_quality(s, 0.9 * (s in collapsed_seeds))
            for s in SEEDS
        }
        flags = {"posterior_collapse": collapsed_seeds, "diversity_collapse": [], "mean_gap": []}
        builder.add_run({KL: weight}, results, flags=flags)
    builder.add_run(
        {}, {s: make_generalized_metrics(61.0, 44.0) for s in SEEDS}, control="zero_shot"
    )
    results = {s: make_generalized_metrics(60 + s / 4, 49.0) | make_quality(s, 0.95) for s in SEEDS}
    return builder.add_run(
        {}, results, control="text_feature", flags={"diversity_collapse": list(SEEDS)}
    )


def make_few_shot_study(selection: str = "base_val") -> StoreBuilder:
    """Build a few_shot study of two fine-tuners."""
    return make_grid_study(
        {"finetuner": ["coop", "tip_adapter"]},
        lambda name, s: {"accuracy": 61.0 + s + (name == "tip_adapter") * (2 + s / 5)},
        name="few", protocol="few_shot", objective="accuracy", selection=selection,
    )  # fmt: skip


def make_cross_dataset_study(
    targets: Sequence[str] = ("caltech101", "dtd"), shots: Sequence[int] = (16,)
) -> StoreBuilder:
    """Build a study that transfers from emoji to targets, with and without a generator.

    Selection has the metrics of base_to_new.
    """
    factors = make_factors("generator", ["none", "vae"], "none")
    factors += make_factors("shots", shots, shots[0]) if len(shots) > 1 else []
    constants = {"targets": json.dumps(list(targets))}
    builder = StoreBuilder(
        name="cross", factors=factors, protocol="cross_dataset", constants=constants
    )
    for (gain, generator), n_shots in itertools.product(enumerate(("none", "vae")), shots):
        results = {}
        for s in SEEDS:
            accuracies = {
                target: 40.0 + 9 * i + gain + s * (1 + gain / 9) for i, target in enumerate(targets)
            }
            results[s] = {
                "accuracy": sum(accuracies.values()) / len(accuracies), "source": 72.0 + s,
                **{f"accuracy/{target}": value for target, value in accuracies.items()},
            }  # fmt: skip
        assignment = {"generator": generator} | ({"shots": n_shots} if len(shots) > 1 else {})
        builder.add_run(assignment, results, selected=make_scores(50.0 + n_shots))
    return builder


def make_multi_dataset_study(
    names: Sequence[str] = ("emoji", "caltech101", "dtd"),
    generators: Sequence[str] = ("none", "vae", "wgan"),
    *,
    skip: Mapping[tuple[str, str], str] | None = None,
    seeds: Sequence[int] = tuple(SEEDS),
) -> StoreBuilder:
    """Build a grid of generators and datasets.

    Args:
        names: Names of the datasets.
        generators: Names of the generators.
        skip: State by (generator, dataset). "MISSING" adds no run.
        seeds: Seeds of every run.
    """
    factors = make_factors("dataset", names, names[0])
    factors += make_factors("generator", generators, generators[0])
    builder = StoreBuilder(name="main", factors=factors, seeds=seeds)
    rng = np.random.default_rng(3)
    for position, dataset in enumerate(names):
        for gain, generator in enumerate(generators):
            assignment = {"dataset": dataset, "generator": generator}
            state = (skip or {}).get((generator, dataset), "COMPLETE")
            results = {
                s: make_scores(
                    45.0 + 12 * (position % 4) + gain + float(rng.normal(0, 1)),
                    82.0 - 9 * (position % 5) + s,
                )
                | ({} if generator == "none" else make_quality(s))
                for s in seeds
            }
            if state == "MISSING":
                builder.add_planned(assignment)
            else:
                builder.add_run(assignment, results, state=state, reason="worker died")
    builder.add_run({}, {s: make_scores(44.0, 80.0) for s in seeds}, control="zero_shot")
    results = {s: make_scores(45.0, 80.0 + s) | make_quality(s, 0.9) for s in seeds}
    return builder.add_run({}, results, control="text_feature")
