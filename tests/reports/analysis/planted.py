"""Simulated studies with known effects of the factors."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.reports.builder import StoreBuilder

METRIC = "harmonic_mean"
SEED_SD = 1.5  # of H, for the effect of a seed on all configurations
RESIDUAL_SD = 0.7  # of H, for the noise of each result

Effect = Callable[[Mapping[str, Any]], float]


def make_planted_study(
    factors: Sequence[Mapping[str, Any]],
    assignments: Sequence[Mapping[str, Any]],
    effect: Effect,
    seeds: int,
    rng: np.random.Generator,
    *,
    sampler: str = "grid",
) -> StoreBuilder:
    """Build a study whose H is 60 plus the effects of the seed and the configuration, plus noise.

    Selection scores are 3 points lower.

    Args:
        factors: Factors, as the study's run lists them.
        assignments: The configurations.
        effect: Function that returns the effect of a configuration on H, in points.
        seeds: Number of seeds.
        rng: Generator of the effects of seeds and of the noise.
        sampler: Sampler of the study.
    """
    builder = StoreBuilder(
        name="planted",
        factors=factors,
        seeds=range(seeds),
        sampler=sampler,
        n_trials=len(assignments),
    )
    seed_effects = rng.normal(0, SEED_SD, seeds)
    for assignment in assignments:
        results = {}
        for seed in range(seeds):
            noise = rng.normal(0, RESIDUAL_SD)
            h = float(60 + effect(assignment) + seed_effects[seed] + noise)
            results[seed] = dict.fromkeys(("base", "new", METRIC), h)
            results[seed] |= dict.fromkeys(
                ("joint_base", "joint_new", "joint_harmonic_mean"), h - 5
            )
        builder.add_run(assignment, results)
    return builder


def make_numbered_factors(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return factors f0, f1, ... with levels 0, 1, ... and baseline 0."""
    return [
        {"key": f"f{i}", "levels": list(range(size)), "log": False, "baseline": 0}
        for i, size in enumerate(sizes)
    ]


def make_planted_grid(
    sizes: Sequence[int], effect: Effect, seeds: int = 5, rng: np.random.Generator | None = None
) -> StoreBuilder:
    """Build a study of every combination of levels of factors f0, f1, ... of these sizes."""
    factors = make_numbered_factors(sizes)
    combinations = itertools.product(*map(range, sizes))
    assignments = [{f"f{i}": level for i, level in enumerate(levels)} for levels in combinations]
    return make_planted_study(factors, assignments, effect, seeds, rng or np.random.default_rng(0))


def make_planted_sample(
    ranges: int,
    configurations: int,
    effect: Effect,
    seeds: int = 3,
    rng: np.random.Generator | None = None,
) -> StoreBuilder:
    """Build a study of configurations that are drawn from ranges x0, x1, ... between 0 and 1."""
    rng = rng or np.random.default_rng(0)
    factors = [
        {"key": f"x{i}", "levels": None, "log": False, "baseline": 0.5} for i in range(ranges)
    ]
    values = rng.random((configurations, ranges))
    assignments = [{f"x{i}": float(v) for i, v in enumerate(row)} for row in values]
    return make_planted_study(factors, assignments, effect, seeds, rng, sampler="random")


def no_effect(assignment: Mapping[str, Any]) -> float:
    """Return 0, because no factor has an effect."""
    return 0.0
