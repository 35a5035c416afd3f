"""How good synthetic features are, judged by real pictures of the same classes."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.distances import (
    LabelledSet,
    compared,
    frechet,
    manifold_metrics,
    matched,
    mmd,
    squared_distances,
)
from ship.generators import FeatureSource, Sample
from ship.protocols import Exam
from ship.replicas import ReplicaRng

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

# Synthetic features a class: as many as there are real pictures, within these bounds. The mean of
# fewer comes short in cosine by chance alone; more than 50 cost time and tell nothing new.
FEWEST, MOST = 16, 50
# ... of which two a class at least, but with very many classes no more than this in all.
MOST_IN_ALL = 4000


def judge(
    generator: FeatureSource | None, exams: Sequence[Exam], seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Quality of features synthesized for the exams' classes, (replica,) each, by name.

    Over several exams it is the mean, of flags the maximum: one is up where any target raised it.
    One that synthesizes nothing, as all its classes are seen, does not count. NaN for replicas
    with a feature that is not finite.

    Args:
        generator: fitted, of as many replicas as there are seeds; None: {}, there are no features.
        exams: real pictures, and the tasks whose classes are synthesized.
        seeds: of each replica.
    """
    if generator is None:
        return {}
    found = [one for exam in exams if (one := judge_exam(generator.sample, exam, seeds))]
    if not found:
        return {}
    shared = [name for name in found[0] if all(name in one for one in found)]
    stacked = {name: torch.stack([one[name] for one in found]) for name in shared}
    return {n: v.amax(0) if n.startswith("flag/") else v.mean(0) for n, v in stacked.items()}


def judge_exam(sample: Sample, exam: Exam, seeds: Sequence[int]) -> dict[str, Tensor]:
    """quality/NAME and flag/NAME of freshly synthesized features, (replica,) each.

    Beside measure_quality's: recognised_by_pictures and recognised_by_text, the percent of features
    that a classifier over all the exam's classes takes for their own class (class means of the
    exam's pictures; the zero-shot classifier).

    The classes are those that a fine-tuner gets synthetic features of, as far as the exam has
    pictures of them. {} where it has none. NaN for replicas with a feature that is not finite.

    Args:
        sample: of a fitted generator, of as many replicas as there are seeds.
        exam: real pictures, and the task whose classes are synthesized.
        seeds: of each replica.
    """
    task, pictures = exam.task, exam.pictures
    device, dtype = task.features.device, task.features.dtype
    ids = task.synthesized_ids
    rows = [torch.isin(pictures.labels, own) for own in ids]
    if not all(bool(shown.any()) for shown in rows):
        return {}
    # of the exam as a whole, so that no seed's number depends on the seeds beside it
    per_class = round(len(pictures.labels) / len(pictures.labels.unique()))
    per_class = min(max(per_class, FEWEST), MOST, max(2, MOST_IN_ALL // ids.shape[1]))
    labels = ids.repeat_interleave(per_class, dim=1)
    noise = ReplicaRng(seeds, "quality/noise", device, dtype)
    made = sample(task.for_generator(labels), noise)
    # decompositions refuse what is not finite, for all replicas at once
    sound = made.isfinite().flatten(1).all(1).nonzero().flatten().tolist()
    made, labels = made[sound], labels[sound]
    real = [pictures.features[rows[place]] for place in sound]
    classes = [pictures.labels[rows[place]] for place in sound]
    draws = ReplicaRng([seeds[place] for place in sound], "quality/draws")
    measured: dict[str, Tensor] = {}
    if sound:
        measured = measure_quality(made, labels, real, classes, task.text_features, draws)
    recognised = {
        "recognised_by_pictures": _recognised(made, labels, *_class_means(exam)),
        "recognised_by_text": _recognised(made, labels, task.text_features, None),
    }
    found = {f"quality/{n}": v for n, v in {**measured, **recognised}.items()}
    found |= {f"flag/{name}": value for name, value in flags(measured).items()}
    missing = torch.full((len(seeds),), torch.nan, dtype=torch.float64)
    places = torch.tensor(sound, dtype=torch.long)
    return {name: missing.index_copy(0, places, value) for name, value in found.items()}


def _class_means(exam: Exam) -> tuple[Float[Tensor, "n_cls feature"], Bool[Tensor, " n_cls"]]:
    """Mean real feature of every class of the universe, unit norm, and which classes have one."""
    labels, features = exam.pictures.labels, exam.pictures.features
    sums = features.new_zeros(len(exam.task.class_names), features.shape[1])
    sums.index_add_(0, labels, features)
    return F.normalize(sums, dim=-1), labels.bincount(minlength=len(sums)) > 0


def _recognised(
    made: Float[Tensor, "replica m feature"],
    labels: Int[Tensor, "replica m"],
    classifier: Float[Tensor, "n_cls feature"],
    known: Bool[Tensor, " n_cls"] | None,
) -> Float[Tensor, " replica"]:
    """Percent of synthetic features that are nearest, by cosine, to their own class of all known.

    Features of classes that the classifier does not know are not counted.
    """
    scores = made @ classifier.T
    counted = torch.ones_like(labels, dtype=torch.bool)
    if known is not None:
        scores = scores.masked_fill(~known, -torch.inf)
        counted = known[labels]
    right = (scores.argmax(-1) == labels) & counted
    return (100 * right.sum(1).double() / counted.sum(1).clamp_min(1)).cpu()


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
        cosine_to_mean, cosine_to_text, text_cosine_to_mean: see cosines_of_means.
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
    metrics = cosines_of_means(made, real, text) | cross_accuracies(made, real)
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


def cosines_of_means(
    made: LabelledSet, real: LabelledSet, text: Float[Tensor, "n_cls feature"]
) -> dict[str, float]:
    """How near synthetic class means, real ones and text features are to each other.

    cosine_to_mean: (1/C) sum_c cos(mean_i s_ci, mean_j x_cj), s synthetic and x real features.
    cosine_to_text: (1/C) sum_c cos(mean_i s_ci, t_c), t_c the class's text feature.
    text_cosine_to_mean: (1/C) sum_c cos(t_c, mean_j x_cj).
    """

    def cosine(one: Tensor, other: Tensor) -> float:
        return float(F.cosine_similarity(one, other).mean())

    return {
        "cosine_to_mean": cosine(made.means, real.means),
        "cosine_to_text": cosine(made.means, text),
        "text_cosine_to_mean": cosine(text, real.means),
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
