"""Class by class: where the means lie, and whether a classifier built on one set fits the other."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ship.quality.sets import ComparedSets, LabelledSet


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
        "real_to_synthetic": nearest_mean_accuracy(class_means(sets.real), sets.synthetic),
        "synthetic_to_real": nearest_mean_accuracy(class_means(sets.synthetic), sets.real),
    }


def nearest_mean_accuracy(means: Float[Tensor, "n_cls feature"], rows: LabelledSet) -> float:
    """Percent of rows whose nearest mean, by cosine, is that of their own class."""
    nearest: Int[Tensor, " n"] = (rows.features @ F.normalize(means, dim=1).T).argmax(dim=1)
    return 100 * float((nearest == rows.labels).to(torch.float64).mean())
