"""What harmonic means of two halves leave out: are base and new pictures told apart at all?

Sources: DeCoOp (Zhou et al., ICML 2024, arXiv:2406.00345), which tests on base and new pictures
mixed; OpenworldAUC (Hua et al., ICML 2025, arXiv:2505.05180), which puts telling them apart and
both classifications into one number; expected calibration error (Guo et al., ICML 2017,
arXiv:1706.04599, sec. 2).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.metrics.answers import Answers

BINS = 15
"""Equally wide bins of confidence, as Guo et al. have them."""


def open_world(answers: Answers) -> dict[str, Float[Tensor, " replica"]]:
    """Metrics of a mixture of base and new pictures, of each replica, in percent.

    joint_accuracy: of all pictures, one softmax over all classes.
    auroc: P(a base picture looks more like a base class than a new picture does), ties half; what
        it looks like is the largest probability of a base class, one softmax over all classes.
    openworld_auc: P(the same, and both pictures are classified right among their own classes);
        eq. 6 of arXiv:2505.05180. Neither auroc nor base * new (as fractions) can be less.
    ece_base, ece_new: expected calibration error of the softmax over a picture's own classes.

    Args:
        answers: to pictures of base and of new classes.
    """
    is_base, right = answers.is_seen, answers.own_right
    likeness, confidence = answers.likeness, answers.confidence
    return {
        "joint_accuracy": 100 * answers.right.double().mean(1),
        "auroc": 100 * _auroc(likeness, is_base),
        "openworld_auc": 100 * _openworld_auc(likeness, is_base, right),
        "ece_base": 100 * _calibration_error(confidence, right, is_base),
        "ece_new": 100 * _calibration_error(confidence, right, ~is_base),
    }


def _auroc(
    likeness: Float[Tensor, "replica n"], is_base: Bool[Tensor, "replica n"]
) -> Float[Tensor, " replica"]:
    """P(base > new) + P(base = new) / 2, over all pairs: from ranks, not from n x n pairs."""
    below = sum(_new_below(likeness, ~is_base, right) for right in (False, True))
    pairs = (is_base.sum(1) * (~is_base).sum(1)).clamp_min(1)
    return (below * is_base).sum(1).double() / 2 / pairs


def _openworld_auc(
    likeness: Float[Tensor, "replica n"],
    is_base: Bool[Tensor, "replica n"],
    right: Bool[Tensor, "replica n"],
) -> Float[Tensor, " replica"]:
    below = _new_below(likeness, ~is_base & right, inclusive=False)
    pairs = (is_base.sum(1) * (~is_base).sum(1)).clamp_min(1)
    return (below * (is_base & right)).sum(1).double() / pairs


def _new_below(
    likeness: Float[Tensor, "replica n"], counted: Bool[Tensor, "replica n"], inclusive: bool
) -> Int[Tensor, "replica n"]:
    """How many counted pictures have less than each picture has (or as much)."""
    ordered = likeness.masked_fill(~counted, torch.inf).sort(-1).values
    return torch.searchsorted(ordered, likeness.contiguous(), right=inclusive)


def _calibration_error(
    confidence: Float[Tensor, "replica n"],
    right: Bool[Tensor, "replica n"],
    counted: Bool[Tensor, "replica n"],
) -> Float[Tensor, " replica"]:
    """Sum over bins of |right answers - confidence| / n, of the counted pictures."""
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # (0, 1/15], (1/15, 2/15], ...
    gaps = torch.where(counted, right.double() - confidence, 0.0)
    by_bin = gaps.new_zeros(len(gaps), BINS).scatter_add(1, bins, gaps)
    return by_bin.abs().sum(1) / counted.sum(1).clamp_min(1)
