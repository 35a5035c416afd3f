"""Warnings about synthetic features that quality metrics give rise to."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

# Diversity is half a mean squared distance: below this fraction, features of a class lie within a
# third of the distances that real ones lie from each other.
COLLAPSED_FRACTION = 0.1

# By chance alone the mean of m features of diversity d comes short in cosine by up to about
# d / (2 m (1 - d)): 0.013 for 16 features of diversity 0.3. A smaller gap says nothing.
GAP_MARGIN = 0.02


def flags(metrics: Mapping[str, Float[Tensor, " replica"]]) -> dict[str, Float[Tensor, " replica"]]:
    """1 where a replica's synthetic features have a known fault, 0 where not.

    diversity_collapse: diversity, or effective rank, below COLLAPSED_FRACTION of the real one.
    mean_gap: the synthetic class means are further from the real ones than the text features are,
        by more than GAP_MARGIN in cosine: the features would serve better without a generator.

    A flag whose metrics are absent is absent.

    Args:
        metrics: what measure_quality returns.
    """
    raised: dict[str, Tensor] = {}
    ratios = [
        metrics[name] < COLLAPSED_FRACTION * metrics[f"real_{name}"]
        for name in ("diversity", "effective_rank")
        if name in metrics and f"real_{name}" in metrics
    ]
    if ratios:
        raised["diversity_collapse"] = torch.stack(ratios).any(dim=0)
    if "cosine_to_mean" in metrics:
        gap = metrics["text_cosine_to_mean"] - metrics["cosine_to_mean"]
        raised["mean_gap"] = gap > GAP_MARGIN
    return {name: flag.to(torch.float64) for name, flag in raised.items()}
