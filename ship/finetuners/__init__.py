"""Fine-tuners on frozen CLIP features: real and synthetic features in, logits over classes out.

Which there are, `FINETUNERS` says (ship.configs): their settings by name, which name the method.
"""

from collections.abc import Sequence
from typing import Any

from ship import methods
from ship.clip import FrozenCLIP
from ship.configs import FINETUNERS
from ship.finetuners.tune import FusedFinetuner
from ship.generators import Synthesizer
from ship.tasks import Task

__all__ = ["FINETUNERS", "FusedFinetuner", "build_finetuner"]


def build_finetuner(
    config: Any, task: Task, synthesizer: Synthesizer | None, clip: FrozenCLIP, seeds: Sequence[int]
) -> FusedFinetuner:
    """The fine-tuner of some settings, all seeds of it, before its first epoch.

    Args:
        config: settings, which name the method.
        task: whose classes it tells apart.
        synthesizer: draws synthetic features; None: there are none.
        clip: the frozen backbone.
        seeds: of each replica.
    """
    kind = config.load_method()
    if not isinstance(kind, type) or not issubclass(kind, methods.Finetuner):
        raise TypeError(f"finetuner {config.name}: its method must be a ship.methods.Finetuner")
    return FusedFinetuner(kind, config, task, synthesizer, clip, seeds)
