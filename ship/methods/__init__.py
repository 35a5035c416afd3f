"""Methods written for one seed, as in their papers, and run for all seeds at once.

- `base`: the base classes of a method.
- `prompts`: learned prompts, and their encoding by the text tower.
- `batching`: functions for all seeds that code for one seed can call.
- `stack`: runs the methods of all seeds as one, under `torch.vmap`.
- `training`: trains the methods of all seeds.

The package exports the names that a method needs.
"""

from ship.methods.base import (
    Choice,
    Draw,
    Features,
    Finetuner,
    Generator,
    Labels,
    Logits,
    Noise,
    Rng,
    Weights,
)
from ship.methods.prompts import Linear
from ship.tasks import FixedRows, SeedTask

__all__ = [
    "Choice", "Draw", "Features", "Finetuner", "FixedRows", "Generator", "Labels", "Linear",
    "Logits", "Noise", "Rng", "SeedTask", "Weights",
]  # fmt: skip
