"""Methods that are written for one seed, as in their papers, and run for all seeds at once.

Answers for: the contract of such a method (contract), its seeds stacked under torch.func.vmap
and what is called once for all of them (stack), and prompts through the text tower (prompts).

Handed on is what a method is written with.
"""

from ship.methods.contract import (
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
