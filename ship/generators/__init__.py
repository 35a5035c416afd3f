"""Build generators of synthetic image features, for classes with and without images.

`GENERATORS` (ship.configs) maps each generator's name to its settings class, whose `load_method()`
returns the class that implements it, or None for the generator "none".
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from ship import methods
from ship.clip import FrozenCLIP
from ship.configs import GENERATORS
from ship.generators.batched import BatchedGenerator
from ship.generators.source import FeatureSource, MixedWithReal, SampleFunction, Synthesizer
from ship.tasks import Task

__all__ = [
    "GENERATORS",
    "FeatureSource",
    "MixedWithReal",
    "SampleFunction",
    "Synthesizer",
    "build_generator",
]


def build_generator(
    config: Any, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
) -> FeatureSource | None:
    """Build an untrained generator for all seeds.

    Args:
        config: Settings of the generator.
        task: Task whose seen classes it is fitted to.
        clip: Frozen backbone.
        seeds: Seeds of the task.

    Returns:
        The generator, or None if the settings have no method (no synthetic features).

    Raises:
        TypeError: The settings refer to something other than a generator, or lack a setting that
            training requires.
        ValueError: An attribute of the generator differs between seeds, and is neither a parameter
            nor a buffer; or early stopping is on and a seed has no validation images.
    """
    kind = config.load_method()
    if kind is None:
        return None
    if not isinstance(kind, type) or not issubclass(kind, FeatureSource | methods.Generator):
        rule = "its method must be a subclass of ship.methods.Generator or FeatureSource"
        raise TypeError(f"generator {config.name}: {rule}, got {kind!r}")
    build: Any = kind if issubclass(kind, FeatureSource) else partial(BatchedGenerator, kind)
    generator: FeatureSource = build(config, task, clip, seeds)
    return generator
