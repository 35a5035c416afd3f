"""How good synthetic features are, judged by real pictures of the same classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.distances import frechet, manifold_metrics, mmd, squared_distances
from ship.replicas import ReplicaRng

# Most features of a set that are used. The k-NN and kernel metrics are quadratic in it, and a set
# of this size takes about half a second a replica on one core.
MAX_FEATURES = 1000

# A standard error from fewer pictures than this would itself be mostly error.
FEWEST_FOR_ERROR = 5

# Mean squared distance to the class mean below which a set has no spread: unit-norm features in
# single precision differ by about 1e-14 by round-off alone.
NO_SPREAD = 1e-12

# Diversity is half a mean squared distance: below this fraction, features of a class lie within a
# third of the distances that real ones lie from each other.
COLLAPSED_FRACTION = 0.1

# By chance alone the mean of m features of diversity d comes short in cosine by up to about
# d / (2 m (1 - d)): 0.013 for 16 features of diversity 0.3. A smaller gap says nothing.
GAP_MARGIN = 0.02


@dataclass(frozen=True)
class LabelledSet:
    """Features and the classes they are of, numbered from 0; every class has at least one."""

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]

    @property
    def counts(self) -> Int[Tensor, " n_cls"]:
        """Features of each class."""
        return self.labels.bincount()

    @property
    def means(self) -> Float[Tensor, "n_cls feature"]:
        """Mean feature of each class, not normalised."""
        counts = self.counts
        sums = self.features.new_zeros(len(counts), self.features.shape[1])
        return sums.index_add_(0, self.labels, self.features) / counts.unsqueeze(1)

    def rows(self, keep: Tensor) -> "LabelledSet":
        """A subset, by mask or by index, which may be on the CPU, where subsets are drawn."""
        keep = keep.to(self.labels.device)
        return LabelledSet(self.features[keep], self.labels[keep])


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
    MAX_FEATURES are drawn, evenly over its classes. A metric that any replica lacks is absent for
    all, so that a value is never NaN or infinite: errors need FEWEST_FOR_ERROR pictures of either
    set, the pooled metrics two, within-class metrics a class with two, accuracies two classes.

    Args:
        synthetic, synthetic_labels: finite unit-norm features and their classes, within the
            universe.
        real, real_labels: pictures to judge them by, one pair for each replica: pseudo-new classes
            differ between seeds, and so do the numbers of their pictures.
        text_features: zero-shot text features of the universe.
        rng: draws the subsets and resamples; each replica from a stream of its own.

    Returns:
        cosine_to_mean, text_cosine_to_mean: see cosines_to_mean.
        real_to_synthetic, synthetic_to_real: percent; see cross_accuracies.
        frechet, frechet_error: ship.distances.frechet.
        mmd, mmd_error: ship.distances.mmd.
        precision, recall, density, coverage: fractions; ship.distances.manifold_metrics.
        diversity, real_diversity: see diversity.
        effective_rank, real_effective_rank: see effective_rank; both sets cut to as many features
            of each class.
    """
    text, each = text_features.double(), []
    seeds = rng.integers(2**62, 1).flatten().tolist()
    rows = zip(synthetic, synthetic_labels, real, real_labels, seeds, strict=True)
    for made, made_labels, pictures, labels, seed in rows:
        generator = torch.Generator().manual_seed(seed)
        sets = LabelledSet(made.double(), made_labels), LabelledSet(pictures.double(), labels)
        each.append(_quality(*sets, text, generator))
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
    for name in ("diversity", "effective_rank"):
        if name in metrics and f"real_{name}" in metrics:
            low = metrics[name] < COLLAPSED_FRACTION * metrics[f"real_{name}"]
            raised["diversity_collapse"] = low | raised.get("diversity_collapse", low)
    if "cosine_to_mean" in metrics:
        gap = metrics["text_cosine_to_mean"] - metrics["cosine_to_mean"]
        raised["mean_gap"] = gap > GAP_MARGIN
    return {name: flag.to(torch.float64) for name, flag in raised.items()}


def _quality(
    made: LabelledSet,
    real: LabelledSet,
    text: Float[Tensor, "n_cls feature"],
    generator: torch.Generator,
) -> dict[str, float]:
    """The metrics of one replica that are defined for it."""
    made, real, text = compared(made, real, text, generator)
    if not len(text):
        return {}
    metrics = cosines_to_mean(made, real, text) | cross_accuracies(made, real)
    n, m = len(real.labels), len(made.labels)
    if min(n, m) >= 2:
        squared = squared_distances(torch.cat([real.features, made.features]))
        metrics["frechet"], frechet_error = frechet(real.features, made.features)
        metrics["mmd"], mmd_error = mmd(squared, n, generator)
        metrics |= manifold_metrics(squared, n)
        if min(n, m) >= FEWEST_FOR_ERROR:
            metrics |= {"frechet_error": frechet_error, "mmd_error": mmd_error}
    spread = {"diversity": diversity(made), "real_diversity": diversity(real)}
    metrics |= {name: value for name, value in spread.items() if value is not None}
    made, real = matched(made, real, generator)
    if len(made.labels):
        metrics["effective_rank"] = effective_rank(made)
        metrics["real_effective_rank"] = effective_rank(real)
    return metrics


def compared(
    made: LabelledSet,
    real: LabelledSet,
    text: Float[Tensor, "n_universe feature"],
    generator: torch.Generator,
) -> tuple[LabelledSet, LabelledSet, Float[Tensor, "n_cls feature"]]:
    """What is left of both sets and the text features by the classes that both sets have.

    Labels are renumbered from 0 in ascending order. A set of more than MAX_FEATURES is cut by a
    draw on the CPU that is even over its classes.
    """
    counts = [own.labels.bincount(minlength=len(text)) for own in (made, real)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    number = shared.cumsum(0) - 1

    def restricted(own: LabelledSet) -> LabelledSet:
        own = own.rows(shared[own.labels])
        numbered = LabelledSet(own.features, number[own.labels])
        return numbered.rows(even_draw(numbered.labels, MAX_FEATURES, generator))

    return restricted(made), restricted(real), text[shared]


def even_draw(
    labels: Int[Tensor, " n"], size: int, generator: torch.Generator
) -> Int[Tensor, " k"]:
    """Rows of a random subset of at most `size`, as even over the classes as their counts allow.

    Every class keeps at least one row where there are no more than `size` classes.

    Args:
        labels: of each row.
        size: most rows that are kept.
        generator: draws on the CPU.
    """
    if len(labels) <= size:
        return torch.arange(len(labels))
    rank = rank_within_class(labels, generator)
    # the fraction shuffles rows of one rank, so that no class comes first
    order = (rank + torch.rand(len(labels), generator=generator, dtype=torch.float64)).argsort()
    kept: Tensor = order[:size].sort().values
    return kept


def rank_within_class(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Each row's place, from 0, in a random order of the rows of its class; on the CPU."""
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - first[labels[order]]
    return rank


def matched(
    made: LabelledSet, real: LabelledSet, generator: torch.Generator
) -> tuple[LabelledSet, LabelledSet]:
    """Both sets with as many features of each class in both; of classes with two or more.

    For measures that grow with the number of pictures. The set that has more of a class is cut by
    a random draw on the CPU.
    """
    limit = torch.minimum(made.counts, real.counts)
    limit = torch.where(limit < 2, 0, limit)

    def cut(own: LabelledSet) -> LabelledSet:
        return own.rows(rank_within_class(own.labels, generator) < limit[own.labels].cpu())

    return cut(made), cut(real)


def cosines_to_mean(
    made: LabelledSet, real: LabelledSet, text: Float[Tensor, "n_cls feature"]
) -> dict[str, float]:
    """How near to the real class means the synthetic ones are, and the text features.

    cosine_to_mean: (1/C) sum_c cos(mean_i s_ci, mean_j x_cj), s synthetic and x real features.
    text_cosine_to_mean: (1/C) sum_c cos(t_c, mean_j x_cj), t_c the class's text feature.
    """
    return {
        "cosine_to_mean": float(F.cosine_similarity(made.means, real.means).mean()),
        "text_cosine_to_mean": float(F.cosine_similarity(text, real.means).mean()),
    }


def cross_accuracies(made: LabelledSet, real: LabelledSet) -> dict[str, float]:
    """Accuracy of a nearest-class-mean classifier (cosine) from one set on the other, in percent.

    real_to_synthetic: built on real features, tested on synthetic ones: are they of their class?
    synthetic_to_real: the reverse: do they teach the classes? (Train on synthetic, test on real:
    Shmelkov et al. 2018, arXiv:1807.09499, whose GAN-test and GAN-train these two are.)
    Among the measured classes alone; empty with a single class, where it would always be 100.
    """
    if len(real.counts) < 2:
        return {}

    def accuracy(built_on: LabelledSet, tested: LabelledSet) -> float:
        nearest = (tested.features @ F.normalize(built_on.means, dim=1).T).argmax(dim=1)
        return 100 * float((nearest == tested.labels).to(torch.float64).mean())

    return {"real_to_synthetic": accuracy(real, made), "synthetic_to_real": accuracy(made, real)}


def diversity(rows: LabelledSet) -> float | None:
    """Mean pairwise cosine distance within a class, mean over the classes with two or more.

        (1/C) sum_c mean_{i < j} (1 - cos(s_ci, s_cj))

    Unbiased whatever the number of pictures; None where every class has one.
    """
    several = rows.counts >= 2
    if not bool(several.any()):
        return None
    unit = F.normalize(rows.features, dim=1)
    n = rows.counts[several].to(unit.dtype)
    sums = unit.new_zeros(len(several), unit.shape[1]).index_add_(0, rows.labels, unit)[several]
    # |sum of unit vectors|^2 = n + the cosines of all ordered pairs
    cosine = (sums.square().sum(dim=1) - n) / (n * (n - 1))
    return max(float((1 - cosine).mean()), 0.0)


def effective_rank(rows: LabelledSet) -> float:
    """exp(entropy) of the normalised spectrum of the within-class covariance (Roy & Vetterli 2007).

        exp(-sum_k p_k ln p_k),  p_k = lambda_k / sum_l lambda_l

    lambda: eigenvalues of sum_c sum_i (s_ci - mean_c)(s_ci - mean_c)^T. From 1 (one direction) to
    the number of dimensions, or of pictures less classes; 0 where there is no spread at all. Grows
    with the number of pictures: compare sets of equal size.
    """
    centred = rows.features - rows.means[rows.labels]
    if float(centred.square().sum()) <= NO_SPREAD * len(centred):
        return 0.0
    # the smaller of the two matrices of products; they share their non-zero eigenvalues
    wide = len(centred) < centred.shape[1]
    products = centred @ centred.T if wide else centred.T @ centred
    spectrum: Float[Tensor, " k"] = torch.linalg.eigvalsh(products).clamp(min=0)
    return float(torch.special.entr(spectrum / spectrum.sum()).sum().exp())
