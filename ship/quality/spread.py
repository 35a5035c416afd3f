"""How different the features of one class are from each other."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ship.quality.classes import class_means
from ship.quality.sets import LabelledSet

# Mean squared distance to the class mean below which a set has no spread: unit-norm features in
# single precision differ by about 1e-14 by round-off alone.
NO_SPREAD = 1e-12


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
