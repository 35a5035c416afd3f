"""Quality of synthetic features, measured against real images of the same classes."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.distances import (
    LabeledSet,
    balance_classes,
    compute_squared_distances,
    frechet,
    manifold_metrics,
    mmd,
    select_shared_classes,
)
from ship.generators import FeatureSource, SampleFunction
from ship.protocols import EvalSet
from ship.seeds import SeedRng

# Minimum number of features per set for a standard error; with fewer it would be too uncertain.
MIN_FOR_ERROR = 5

# A set has no spread if the mean squared distance to the class mean is at most this. For equal
# unit-norm features in single precision, round-off makes it about 1e-14.
NO_SPREAD = 1e-12

# Features have collapsed if their diversity or effective rank is below this fraction of that of
# real images. Diversity is half the mean squared distance within classes: with a tenth of the
# diversity, these distances are less than a third of those of real images.
COLLAPSED_FRACTION = 0.1

# The flag mean_gap is set if two cosines differ by more than this. By chance, the cosine of the
# mean of m features with diversity d is too low by up to about d / (2 m (1 - d)): 0.013 for 16
# features with diversity 0.3.
GAP_MARGIN = 0.02

# As many synthetic features per class are drawn as there are real images, within these bounds. With
# fewer, the cosine of the mean would be too low; more would take time without adding information.
MIN_PER_CLASS, MAX_PER_CLASS = 16, 50
# Maximum number of synthetic features over all classes. Each class has at least two even if this
# limit is then exceeded.
MAX_FEATURES_IN_ALL = 4000


def measure_generator(
    generator: FeatureSource | None, eval_sets: Sequence[EvalSet], seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Measure the quality of features synthesized for the evaluation sets' classes.

    Metrics are averaged over the evaluation sets; a flag is set if it is set for any of them.
    Evaluation sets without images of synthesized classes are skipped. A metric is omitted if it is
    not defined for each of the remaining sets.

    Args:
        generator: Generator fitted for these seeds. None if no features are synthesized.
        eval_sets: Real images, and the tasks whose classes are synthesized.
        seeds: Seeds of the trial.

    Returns:
        The metrics and flags by name, (seed,) each; NaN for seeds with non-finite features.
        Empty if there are no features to measure.
    """
    if generator is None:
        return {}
    results = [measure_eval_set(generator.sample, eval_set, seeds) for eval_set in eval_sets]
    results = [metrics for metrics in results if metrics]
    if not results:
        return {}
    names = [name for name in results[0] if all(name in metrics for metrics in results)]
    values = {name: torch.stack([metrics[name] for metrics in results]) for name in names}
    return {
        name: value.amax(0) if name.startswith("flag/") else value.mean(0)
        for name, value in values.items()
    }


def measure_eval_set(
    sample: SampleFunction, eval_set: EvalSet, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Synthesize features for an evaluation set's classes and measure their quality.

    Features are synthesized for the same classes as for the fine-tuner, and compared with the
    evaluation set's images of these classes.

    Args:
        sample: Method `sample` of a generator fitted for these seeds.
        eval_set: Real images, and the task whose classes are synthesized.
        seeds: Seeds of the trial.

    Returns:
        quality/NAME and flag/NAME, (seed,) each; NaN for seeds with non-finite features. Empty if
        the evaluation set has no images of these classes for one of the seeds. NAME is a result of
        measure_quality or flag_faults, or

        - recognized_by_images: percentage of features whose nearest class mean of real images is
          that of their class, among the classes that have images.
        - recognized_by_text: percentage of features that the zero-shot classifier over all classes
          of the task assigns to their class.
    """
    task, images = eval_set.task, eval_set.images
    device, dtype = task.features.device, task.features.dtype
    ids = task.synthetic_ids
    masks = [torch.isin(images.labels, classes_of_seed) for classes_of_seed in ids]
    if not all(bool(mask.any()) for mask in masks):
        return {}
    # computed from the whole evaluation set, so that it does not depend on the seeds
    per_class = round(len(images.labels) / len(images.labels.unique()))
    per_class = min(
        max(per_class, MIN_PER_CLASS), MAX_PER_CLASS, max(2, MAX_FEATURES_IN_ALL // ids.shape[1])
    )
    labels = ids.repeat_interleave(per_class, dim=1)
    noise = SeedRng(seeds, "quality/noise", device, dtype)
    features = sample(task.to_generator_labels(labels), noise)
    # a matrix decomposition fails for all seeds if one has non-finite features
    finite_seeds = features.isfinite().flatten(1).all(1).nonzero().flatten().tolist()
    features, labels = features[finite_seeds], labels[finite_seeds]
    real = [images.features[masks[i]] for i in finite_seeds]
    classes = [images.labels[masks[i]] for i in finite_seeds]
    draws = SeedRng([seeds[i] for i in finite_seeds], "quality/draws")
    measured: dict[str, Tensor] = {}
    if finite_seeds:
        measured = measure_quality(features, labels, real, classes, task.text_features, draws)
    recognized = {
        "recognized_by_images": _measure_recognition(
            features, labels, *_compute_class_means(eval_set)
        ),
        "recognized_by_text": _measure_recognition(features, labels, task.text_features, None),
    }
    metrics = {f"quality/{name}": value for name, value in {**measured, **recognized}.items()}
    metrics |= {f"flag/{name}": value for name, value in flag_faults(measured).items()}
    missing = torch.full((len(seeds),), torch.nan, dtype=torch.float64)
    seed_indices = torch.tensor(finite_seeds, dtype=torch.long)
    return {name: missing.index_copy(0, seed_indices, value) for name, value in metrics.items()}


def _compute_class_means(
    eval_set: EvalSet,
) -> tuple[Float[Tensor, "n_cls feature"], Bool[Tensor, " n_cls"]]:
    """Return the unit-norm mean image feature of each class, and a mask of classes with images."""
    labels, features = eval_set.images.labels, eval_set.images.features
    sums = features.new_zeros(len(eval_set.task.class_names), features.shape[1])
    sums.index_add_(0, labels, features)
    return F.normalize(sums, dim=-1), labels.bincount(minlength=len(sums)) > 0


def _measure_recognition(
    features: Float[Tensor, "seed m feature"],
    labels: Int[Tensor, "seed m"],
    classifier: Float[Tensor, "n_cls feature"],
    allowed_classes: Bool[Tensor, " n_cls"] | None,
) -> Float[Tensor, " seed"]:
    """Return the percentage of features that a cosine classifier assigns to their class.

    Args:
        features: Synthetic features.
        labels: Classes of the features.
        classifier: Weights of all classes.
        allowed_classes: Mask of the classes that may be predicted. Features of other classes are
            not counted. None allows all classes.
    """
    scores = features @ classifier.T
    counted = torch.ones_like(labels, dtype=torch.bool)
    if allowed_classes is not None:
        scores = scores.masked_fill(~allowed_classes, -torch.inf)
        counted = allowed_classes[labels]
    correct = (scores.argmax(-1) == labels) & counted
    return (100 * correct.sum(1).double() / counted.sum(1).clamp_min(1)).cpu()


@torch.no_grad()
def measure_quality(
    synthetic: Float[Tensor, "seed m feature"],
    synthetic_labels: Int[Tensor, "seed m"],
    real: Sequence[Float[Tensor, "_ feature"]],
    real_labels: Sequence[Int[Tensor, " _"]],
    text_features: Float[Tensor, "n_cls feature"],
    rng: SeedRng,
) -> dict[str, Float[Tensor, " seed"]]:
    """Compare synthetic features with real ones of the same classes, for each seed.

    Computed in float64 on the device of the synthetic features. Random draws are made on the CPU,
    so that they are the same on every device. Only classes in both sets are compared. Sets larger
    than MAX_FEATURES are subsampled evenly over their classes.

    A metric that is undefined for one seed is omitted for all, so that values are never NaN or
    infinite. The metrics require at least

    - two features in both sets: frechet, mmd, precision, recall, density, coverage.
    - MIN_FOR_ERROR features in both sets: frechet_error, mmd_error.
    - a class with two features in the measured set: diversity, real_diversity.
    - a class with two features in both sets: effective_rank, real_effective_rank.
    - two classes: real_to_synthetic, synthetic_to_real.

    Args:
        synthetic: Finite unit-norm features.
        synthetic_labels: Classes of the synthetic features.
        real: Features of real images, one tensor per seed: pseudo-new classes differ between seeds,
            and so do the numbers of their images.
        real_labels: Classes of the real images.
        text_features: Zero-shot text features of all classes.
        rng: Random streams for subsets and resamples.

    Returns:
        Metrics by name:

        - cosine_to_mean, cosine_to_text, text_cosine_to_mean: see compute_cosines_of_means.
        - real_to_synthetic, synthetic_to_real: percentages, see cross_accuracies.
        - frechet, frechet_error: see ship.distances.frechet.
        - mmd, mmd_error: see ship.distances.mmd.
        - precision, recall, density, coverage: fractions, see ship.distances.manifold_metrics.
        - diversity, real_diversity: see diversity.
        - effective_rank, real_effective_rank: see effective_rank, with equal numbers of features
          per class in both sets.
    """
    text = text_features.double()
    by_seed: list[dict[str, float]] = []
    seeds = rng.integers(2**62, 1).flatten().tolist()
    rows = zip(synthetic, synthetic_labels, real, real_labels, seeds, strict=True)
    for features, feature_labels, images, labels, seed in rows:
        generator = torch.Generator().manual_seed(seed)
        sets = LabeledSet(features.double(), feature_labels), LabeledSet(images.double(), labels)
        by_seed.append(_measure_seed(*sets, text, generator))
    common = [name for name in by_seed[0] if all(name in metrics for metrics in by_seed)]
    return {
        name: torch.tensor([metrics[name] for metrics in by_seed], dtype=torch.float64)
        for name in common
    }


def flag_faults(metrics: Mapping[str, Float[Tensor, " seed"]]) -> dict[str, Float[Tensor, " seed"]]:
    """Flag known faults of synthetic features.

    Args:
        metrics: Result of measure_quality.

    Returns:
        Flags by name, 1 for seeds with the fault and 0 for the others. A flag is omitted if its
        metrics are missing.

        - diversity_collapse: diversity or effective rank is below COLLAPSED_FRACTION of that of the
          real images.
        - mean_gap: cosine_to_mean is lower than text_cosine_to_mean by more than GAP_MARGIN. Text
          features are then closer to real images than the generator's features are.
    """
    flags: dict[str, Tensor] = {}
    for name in ("diversity", "effective_rank"):
        if name in metrics and f"real_{name}" in metrics:
            low = metrics[name] < COLLAPSED_FRACTION * metrics[f"real_{name}"]
            flags["diversity_collapse"] = low | flags.get("diversity_collapse", low)
    if "cosine_to_mean" in metrics:
        gap = metrics["text_cosine_to_mean"] - metrics["cosine_to_mean"]
        flags["mean_gap"] = gap > GAP_MARGIN
    return {name: flag.to(torch.float64) for name, flag in flags.items()}


def _measure_seed(
    synthetic: LabeledSet,
    real: LabeledSet,
    text: Float[Tensor, "n_cls feature"],
    generator: torch.Generator,
) -> dict[str, float]:
    """Compute the metrics of one seed that are defined; see measure_quality."""
    synthetic, real, text = select_shared_classes(synthetic, real, text, generator)
    if not len(text):
        return {}
    metrics = compute_cosines_of_means(synthetic, real, text) | cross_accuracies(synthetic, real)
    n, m = len(real.labels), len(synthetic.labels)
    if min(n, m) >= 2:
        squared = compute_squared_distances(torch.cat([real.features, synthetic.features]))
        metrics["frechet"], frechet_error = frechet(real.features, synthetic.features)
        metrics["mmd"], mmd_error = mmd(squared, n, generator)
        metrics |= manifold_metrics(squared, n)
        if min(n, m) >= MIN_FOR_ERROR:
            metrics |= {"frechet_error": frechet_error, "mmd_error": mmd_error}
    diversities = {"diversity": diversity(synthetic), "real_diversity": diversity(real)}
    metrics |= {name: value for name, value in diversities.items() if value is not None}
    synthetic, real = balance_classes(synthetic, real, generator)
    if len(synthetic.labels):
        metrics["effective_rank"] = effective_rank(synthetic)
        metrics["real_effective_rank"] = effective_rank(real)
    return metrics


def compute_cosines_of_means(
    synthetic: LabeledSet, real: LabeledSet, text: Float[Tensor, "n_cls feature"]
) -> dict[str, float]:
    """Compute cosines between synthetic class means, real class means and text features.

    - cosine_to_mean: (1/C) sum_c cos(mean_i s_ci, mean_j x_cj), s synthetic and x real features.
    - cosine_to_text: (1/C) sum_c cos(mean_i s_ci, t_c), t_c the class's text feature.
    - text_cosine_to_mean: (1/C) sum_c cos(t_c, mean_j x_cj).
    """

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(F.cosine_similarity(a, b).mean())

    return {
        "cosine_to_mean": cosine(synthetic.means, real.means),
        "cosine_to_text": cosine(synthetic.means, text),
        "text_cosine_to_mean": cosine(text, real.means),
    }


def cross_accuracies(synthetic: LabeledSet, real: LabeledSet) -> dict[str, float]:
    """Compute how well the class means of one set classify the features of the other set.

    A feature is assigned to the class whose mean has the largest cosine with it. Both sets must
    have the same classes. The accuracies, in percent, are GAN-test and GAN-train of Shmelkov et al.
    2018 (arXiv:1807.09499):

    - real_to_synthetic (GAN-test): class means of real features, tested on synthetic features. It
      measures whether synthetic features belong to their classes.
    - synthetic_to_real (GAN-train): class means of synthetic features, tested on real features. It
      measures whether synthetic features are useful for training.

    Returns:
        The two metrics. Empty for a single class, for which accuracy is always 100.
    """
    if len(real.counts) < 2:
        return {}

    def accuracy(training_set: LabeledSet, test_set: LabeledSet) -> float:
        nearest = (test_set.features @ F.normalize(training_set.means, dim=1).T).argmax(dim=1)
        return 100 * float((nearest == test_set.labels).to(torch.float64).mean())

    return {
        "real_to_synthetic": accuracy(real, synthetic),
        "synthetic_to_real": accuracy(synthetic, real),
    }


def diversity(rows: LabeledSet) -> float | None:
    """Compute the mean pairwise cosine distance within classes.

        (1/C) sum_c mean_{i < j} (1 - cos(s_ci, s_cj))

    The mean over c is over classes with two or more features. The number of features does not bias
    the result.

    Returns:
        The distance, or None if no class has two features.
    """
    has_pairs = rows.counts >= 2
    if not bool(has_pairs.any()):
        return None
    unit = F.normalize(rows.features, dim=1)
    n = rows.counts[has_pairs].to(unit.dtype)
    sums = unit.new_zeros(len(has_pairs), unit.shape[1]).index_add_(0, rows.labels, unit)[has_pairs]
    # |sum of unit vectors|^2 = n + the cosines of all ordered pairs
    cosine = (sums.square().sum(dim=1) - n) / (n * (n - 1))
    return max(float((1 - cosine).mean()), 0.0)


def effective_rank(rows: LabeledSet) -> float:
    """Compute the effective rank of the within-class covariance (Roy & Vetterli 2007).

    It is exp(entropy) of the normalized spectrum:

        exp(-sum_k p_k ln p_k),  p_k = lambda_k / sum_l lambda_l

    lambda: eigenvalues of sum_c sum_i (s_ci - mean_c)(s_ci - mean_c)^T. The value is 1 if the
    features vary in one direction, and at most min(dimensions, features - classes). It is 0 if the
    features of every class are equal. It grows with the number of features: compare only sets of
    equal size.
    """
    centered = rows.features - rows.means[rows.labels]
    if float(centered.square().sum()) <= NO_SPREAD * len(centered):
        return 0.0
    # X X^T and X^T X have the same non-zero eigenvalues: use the smaller matrix
    has_fewer_rows = len(centered) < centered.shape[1]
    products = centered @ centered.T if has_fewer_rows else centered.T @ centered
    spectrum: Float[Tensor, " k"] = torch.linalg.eigvalsh(products).clamp(min=0)
    return float(torch.special.entr(spectrum / spectrum.sum()).sum().exp())
