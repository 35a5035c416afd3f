"""Tolerances for results in a precision, compared with the same results in float64.

Errors of n roundings in sequence are assumed to be independent with mean 0, so their sum grows like
sqrt(n) (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). The
bound is SAFETY * eps * sqrt(n). It is not fitted to measurements.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

EPS: Final = {
    "fp32": torch.finfo(torch.float32).eps,
    "tf32": 2.0**-10,  # ten bits of mantissa; hardware may truncate instead of rounding
    "bf16": torch.finfo(torch.bfloat16).eps,
}
SAFETY: Final = 2.0
# Two norms, six products (queries to values, scores, mixture, output, both of the MLP), softmax,
# activation and two residual sums.
OPERATIONS_PER_BLOCK: Final = 12
# The longest sum within a product. tf32 and bf16 round the factors, and add up in float32.
LONGEST_SUM: Final = 512
# A gradient passes through each operation once forward, and twice backward.
GRADIENT: Final = 3


def tolerance(precision: str, blocks: int, passes: int = 1) -> float:
    """Return the relative error that a precision allows.

    Args:
        precision: A key of EPS.
        blocks: Number of transformer blocks, or of steps of about as many operations.
        passes: Number of passes through each block: 1, or GRADIENT.
    """
    sums = LONGEST_SUM if precision == "fp32" else 1
    return SAFETY * EPS[precision] * math.sqrt(OPERATIONS_PER_BLOCK * blocks * passes * sums)


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Return the norm of the difference divided by that of the reference, or NaN if any is NaN."""
    reference = reference.detach().double().cpu()
    difference = result.detach().double().cpu() - reference
    return float(difference.norm() / reference.norm())


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Return the numbers of all tensors as one vector on the CPU."""
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])
