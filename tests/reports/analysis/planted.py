"""Made-up studies in which the effects of the factors are known."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.reports.builder import StoreBuilder

METRIC = "harmonic_mean"
SEED_SD, RESIDUAL_SD = 1.5, 0.7  # of H: what a seed adds to all settings, and what to one of them

Effect = Callable[[Mapping[str, Any]], float]


def planted(
    factors: Sequence[Mapping[str, Any]],
    assignments: Sequence[Mapping[str, Any]],
    effect: Effect,
    seeds: int,
    rng: np.random.Generator,
    *,
    sampler: str = "grid",
) -> StoreBuilder:
    """A study whose H is 60, a seed's own part, the effect, and noise; selection is 3 lower.

    Args:
        factors: as the study's run lists them.
        assignments: the settings.
        effect: points of H of a setting.
        seeds: how many.
        rng: draws seeds' parts and noise.
        sampler: of the study.
    """
    builder = StoreBuilder(
        name="planted",
        factors=factors,
        seeds=range(seeds),
        sampler=sampler,
        n_trials=len(assignments),
    )
    of_seed = rng.normal(0, SEED_SD, seeds)
    for assignment in assignments:
        results = {}
        for seed in range(seeds):
            value = 60 + effect(assignment) + of_seed[seed] + rng.normal(0, RESIDUAL_SD)
            results[seed] = dict.fromkeys(("base", "new", METRIC), float(value)) | dict.fromkeys(
                ("joint_base", "joint_new", "joint_harmonic_mean"), float(value) - 5
            )
        builder.trial(assignment, results)
    return builder


def levelled(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Factors f0, f1, ... with levels 0, 1, ...; their baselines are 0."""
    return [
        {"key": f"f{i}", "levels": list(range(n)), "log": False, "baseline": 0}
        for i, n in enumerate(sizes)
    ]


def grid(
    sizes: Sequence[int], effect: Effect, seeds: int = 5, rng: np.random.Generator | None = None
) -> StoreBuilder:
    """Every combination of the levels of some factors."""
    factors = levelled(sizes)
    cells = itertools.product(*(range(n) for n in sizes))
    assignments = [{f"f{i}": level for i, level in enumerate(cell)} for cell in cells]
    return planted(factors, assignments, effect, seeds, rng or np.random.default_rng(0))


def drawn(
    ranges: int,
    configurations: int,
    effect: Effect,
    seeds: int = 3,
    rng: np.random.Generator | None = None,
) -> StoreBuilder:
    """Settings drawn from ranges x0, x1, ... of 0 to 1."""
    rng = rng or np.random.default_rng(0)
    factors = [
        {"key": f"x{i}", "levels": None, "log": False, "baseline": 0.5} for i in range(ranges)
    ]
    values = rng.random((configurations, ranges))
    assignments = [{f"x{i}": float(v) for i, v in enumerate(row)} for row in values]
    return planted(factors, assignments, effect, seeds, rng, sampler="random")


def nothing(assignment: Mapping[str, Any]) -> float:
    """No factor has an effect."""
    return 0.0
