"""Build fine-tuners: classifiers that are trained on real and synthetic CLIP features.

`FINETUNERS` (ship.configs) maps each fine-tuner's name to its settings class, whose `load_method()`
returns the class that implements it.
"""

from collections.abc import Sequence
from typing import Any

from ship import methods
from ship.clip import FrozenCLIP
from ship.configs import FINETUNERS
from ship.finetuners.batched import BatchedFinetuner
from ship.generators import Synthesizer
from ship.tasks import Task

__all__ = ["FINETUNERS", "BatchedFinetuner", "build_finetuner"]


def build_finetuner(
    config: Any, task: Task, synthesizer: Synthesizer | None, clip: FrozenCLIP, seeds: Sequence[int]
) -> BatchedFinetuner:
    """Build an untrained fine-tuner for all seeds.

    Args:
        config: Settings of the fine-tuner.
        task: Task with the classes and the training images.
        synthesizer: Source of synthetic features. None trains without them.
        clip: Frozen backbone.
        seeds: Seeds of the task.

    Raises:
        TypeError: The settings do not refer to a fine-tuner, or lack a setting that training
            requires.
        ValueError: An attribute of the fine-tuner differs between seeds, and is neither a parameter
            nor a buffer.
    """
    kind = config.load_method()
    if not isinstance(kind, type) or not issubclass(kind, methods.Finetuner):
        rule = "its method must be a subclass of ship.methods.Finetuner"
        raise TypeError(f"finetuner {config.name}: {rule}, got {kind!r}")
    return BatchedFinetuner(kind, config, task, synthesizer, clip, seeds)
