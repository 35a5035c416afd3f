"""Class by class: where means lie, how features differ, and whose class they are taken for."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.quality.sets import ComparedSets, LabelledSet

# Mean squared distance to the class mean below which a set has no spread: unit-norm features in
# single precision differ by about 1e-14 by round-off alone.
NO_SPREAD = 1e-12


def class_means(rows: LabelledSet) -> Float[Tensor, "n_cls feature"]:
    """Mean feature of each class, not normalised."""
    counts = rows.counts
    sums = rows.features.new_zeros(len(counts), rows.features.shape[1])
    return sums.index_add_(0, rows.labels, rows.features) / counts.unsqueeze(1)


def cosines_to_mean(sets: ComparedSets) -> dict[str, float]:
    """How near to the real class means the synthetic ones are, and the text features.

    cosine_to_mean: (1/C) sum_c cos(mean_i s_ci, mean_j x_cj), s synthetic and x real features.
    text_cosine_to_mean: (1/C) sum_c cos(t_c, mean_j x_cj), t_c the class's text feature.
    """
    real = class_means(sets.real)
    made = class_means(sets.synthetic)
    return {
        "cosine_to_mean": float(F.cosine_similarity(made, real).mean()),
        "text_cosine_to_mean": float(F.cosine_similarity(sets.text, real).mean()),
    }


def cross_accuracies(sets: ComparedSets) -> dict[str, float]:
    """Accuracy of a nearest-class-mean classifier (cosine) from one set on the other, in percent.

    real_to_synthetic: built on real features, tested on synthetic ones: are they of their class?
    synthetic_to_real: the reverse: do they teach the classes? (Train on synthetic, test on real:
    Shmelkov et al. 2018, arXiv:1807.09499, whose GAN-test and GAN-train these two are.)
    Among the measured classes alone; empty with a single class, where it would always be 100.
    """
    if len(sets.text) < 2:
        return {}
    return {
        "real_to_synthetic": _nearest_mean_accuracy(sets.real, sets.synthetic),
        "synthetic_to_real": _nearest_mean_accuracy(sets.synthetic, sets.real),
    }


def _nearest_mean_accuracy(built_on: LabelledSet, tested: LabelledSet) -> float:
    """Percent of rows whose nearest class mean, by cosine, is that of their own class."""
    means = F.normalize(class_means(built_on), dim=1)
    nearest: Int[Tensor, " n"] = (tested.features @ means.T).argmax(dim=1)
    return 100 * float((nearest == tested.labels).to(torch.float64).mean())


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
    centred = rows.features - class_means(rows)[rows.labels]
    if float(centred.square().sum()) <= NO_SPREAD * len(centred):
        return 0.0
    # the smaller of the two matrices of products; they share their non-zero eigenvalues
    wide = len(centred) < centred.shape[1]
    products = centred @ centred.T if wide else centred.T @ centred
    spectrum: Float[Tensor, " k"] = torch.linalg.eigvalsh(products).clamp(min=0)
    return float(torch.special.entr(spectrum / spectrum.sum()).sum().exp())
