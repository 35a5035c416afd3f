"""FLOPs of many settings: counting one takes seconds, so that some stand for the others."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harness.resources import CountedCosts
from ship.trial_config import TrialConfig

# Settings of different sizes that are counted.
MOST_COUNTED = 24


def flops_of(trials: Sequence[tuple[TrialConfig, int]], costs: CountedCosts) -> list[float]:
    """FLOPs of each trial and its seeds.

    Those that differ in epochs, learning rates or weights share a count. Of more than MOST_COUNTED
    others, some are counted, evenly spaced, and the rest have the mean of those most like them.
    """
    from ship.cost import alike

    kinds = list({alike(config): config for config, _ in trials}.items())
    counted = dict(kinds[:: -(-len(kinds) // MOST_COUNTED)])

    def flops(config: TrialConfig, n_seeds: int) -> float:
        if alike(config) in counted:
            return costs(config, n_seeds)
        own, others = config.model_dump(), counted.values()
        apart = [_apart(own, other.model_dump()) for other in others]
        least = min(apart)
        nearest = [other for other, far in zip(others, apart, strict=True) if far == least]
        return statistics.fmean(costs(other, n_seeds) for other in nearest)

    return [flops(config, n_seeds) for config, n_seeds in trials]


def _apart(one: Any, other: Any) -> float:
    """How unlike two settings are: a sum over their values, each from 0 to 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = one.keys() | other.keys()
        return math.fsum(_apart(one.get(key), other.get(key)) for key in sorted(keys))
    if one == other:
        return 0.0
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) / (abs(one) + abs(other))
    return 1.0
