"""Every quality metric of the synthetic features of a trial's replicas, and what they warn of."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.quality.classes import cosines_to_mean, cross_accuracies, diversity, effective_rank
from ship.quality.distances import frechet, manifold_metrics, mmd, squared_distances
from ship.quality.sets import ComparedSets, compared_sets, matched_sets
from ship.training import ReplicaRng

# A standard error from fewer pictures than this would itself be mostly error.
FEWEST_FOR_ERROR = 5

# Diversity is half a mean squared distance: below this fraction, features of a class lie within a
# third of the distances that real ones lie from each other.
COLLAPSED_FRACTION = 0.1

# By chance alone the mean of m features of diversity d comes short in cosine by up to about
# d / (2 m (1 - d)): 0.013 for 16 features of diversity 0.3. A smaller gap says nothing.
GAP_MARGIN = 0.02


@torch.no_grad()
def measure_quality(
    synthetic: Float[Tensor, "replica m feature"],
    synthetic_labels: Int[Tensor, "replica m"],
    real: Sequence[Float[Tensor, "_ feature"]],
    real_labels: Sequence[Int[Tensor, " _"]],
    text_features: Float[Tensor, "n_cls feature"],
    rng: ReplicaRng,
) -> dict[str, Float[Tensor, " replica"]]:
    """Compare synthetic features with real ones of the same classes, replica by replica.

    All in float64, where the synthetic features are; what is drawn is drawn on the CPU, so that it
    is the same on every device. Only classes that both sets have are compared; of a longer set,
    ship.quality.sets.MAX_FEATURES are drawn, evenly over its classes. A metric that any replica
    lacks is absent for all, so that a value is never NaN or infinite: errors need
    FEWEST_FOR_ERROR pictures of either set, the pooled metrics two, within-class metrics a class
    with two, accuracies two classes.

    Args:
        synthetic, synthetic_labels: unit-norm features and their classes, within the universe.
        real, real_labels: pictures to judge them by, one pair for each replica: pseudo-new classes
            differ between seeds, and so do the numbers of their pictures.
        text_features: zero-shot text features of the universe.
        rng: draws the subsets and resamples; each replica from a stream of its own.

    Returns:
        cosine_to_mean, text_cosine_to_mean: ship.quality.classes.cosines_to_mean.
        real_to_synthetic, synthetic_to_real: percent; ship.quality.classes.cross_accuracies.
        frechet, frechet_error: ship.quality.distances.frechet.
        mmd, mmd_error: ship.quality.distances.mmd.
        precision, recall, density, coverage: fractions; ship.quality.distances.manifold_metrics.
        diversity, real_diversity: ship.quality.classes.diversity.
        effective_rank, real_effective_rank: ship.quality.classes.effective_rank, both sets cut to
            as many features of each class.

    Raises:
        ValueError: a feature is not finite, or there are not as many real sets as replicas.
    """
    seeds = rng.integers(2**62, 1).flatten().tolist()
    text = text_features.double()
    each = []
    for made, made_labels, pictures, labels, seed in zip(
        synthetic, synthetic_labels, real, real_labels, seeds, strict=True
    ):
        generator = torch.Generator().manual_seed(seed)
        sets = compared_sets(made.double(), made_labels, pictures.double(), labels, text, generator)
        each.append({} if sets is None else _replica_quality(sets, generator))
    common = [name for name in each[0] if all(name in metrics for metrics in each)]
    return {
        name: torch.tensor([metrics[name] for metrics in each], dtype=torch.float64)
        for name in common
    }


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


def _replica_quality(sets: ComparedSets, generator: torch.Generator) -> dict[str, float]:
    """The metrics of one replica that are defined for it."""
    return {
        **cosines_to_mean(sets),
        **cross_accuracies(sets),
        **_pooled_metrics(sets, generator),
        **_spread_metrics(sets, generator),
    }


def _pooled_metrics(sets: ComparedSets, generator: torch.Generator) -> dict[str, float]:
    real, made = sets.real.features, sets.synthetic.features
    if min(len(real), len(made)) < 2:
        return {}
    squared = squared_distances(torch.cat([real, made]))
    distance, distance_error = frechet(real, made)
    discrepancy, discrepancy_error = mmd(squared, len(real), generator)
    metrics = {"frechet": distance, "mmd": discrepancy, **manifold_metrics(squared, len(real))}
    if min(len(real), len(made)) >= FEWEST_FOR_ERROR:
        metrics |= {"frechet_error": distance_error, "mmd_error": discrepancy_error}
    return metrics


def _spread_metrics(sets: ComparedSets, generator: torch.Generator) -> dict[str, float]:
    metrics = {"diversity": diversity(sets.synthetic), "real_diversity": diversity(sets.real)}
    matched = matched_sets(sets, generator)
    if matched is not None:
        made, real = matched
        metrics |= {
            "effective_rank": effective_rank(made),
            "real_effective_rank": effective_rank(real),
        }
    return {name: value for name, value in metrics.items() if value is not None}
