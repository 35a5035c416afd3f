"""Methods that are written for one seed, as in their papers, and run for all seeds at once.

Answers for: the contract of such a method (contract), its seeds stacked under torch.func.vmap
and called once (stack), and prompts through the text tower (prompts).
"""

from ship.methods.contract import (
    Choice,
    Draw,
    Features,
    Finetuner,
    Generator,
    Labels,
    Logits,
    Method,
    Noise,
    Rng,
    Weights,
)
from ship.methods.prompts import PROMPTS_AT_ONCE, Linear, Prompts, initial_context, uniform_linear
from ship.methods.stack import Fused, Stack, folded, require_settings
from ship.tasks import FixedRows, SeedTask

__all__ = [
    "PROMPTS_AT_ONCE",
    "Choice",
    "Draw",
    "Features",
    "Finetuner",
    "FixedRows",
    "Fused",
    "Generator",
    "Labels",
    "Linear",
    "Logits",
    "Method",
    "Noise",
    "Prompts",
    "Rng",
    "SeedTask",
    "Stack",
    "Weights",
    "folded",
    "initial_context",
    "require_settings",
    "uniform_linear",
]
