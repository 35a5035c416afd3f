"""Feature sets with known faults, on the unit sphere."""

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Random unit-norm rows in double precision."""
    return F.normalize(torch.randn(shape, generator=generator(seed), dtype=torch.float64), dim=-1)


def clustered(
    centres: Tensor, per_class: int, spread: float = 0.5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Unit-norm features around each class's centre, and their labels."""
    labels = torch.arange(len(centres)).repeat_interleave(per_class)
    noise = unit(len(labels), centres.shape[1], seed=seed)
    return F.normalize(centres[labels] + spread * noise, dim=1), labels


def generator(seed: int = 0) -> torch.Generator:
    """A seeded stream."""
    return torch.Generator().manual_seed(seed)
