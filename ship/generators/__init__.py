"""Generators of synthetic features for classes without pictures, each behind one small contract.

Which there are, `GENERATORS` says (ship.configs): their settings by name, which name the method.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from ship import methods
from ship.clip import FrozenCLIP
from ship.configs import GENERATORS
from ship.generators.fit import FusedGenerator
from ship.generators.source import FeatureSource, MixedWithReal, Sample, Synthesizer
from ship.tasks import Task

__all__ = [
    "GENERATORS",
    "FeatureSource",
    "MixedWithReal",
    "Sample",
    "Synthesizer",
    "build_generator",
]


def build_generator(
    config: Any, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
) -> FeatureSource | None:
    """The generator of some settings, all seeds of it, before its first epoch.

    Args:
        config: settings, which name the method.
        task: whose seen classes it is fitted on.
        clip: the frozen backbone.
        seeds: of each replica.

    Returns:
        None for settings without a method: no synthetic features.
    """
    kind = config.load_method()
    if kind is None:
        return None
    if not isinstance(kind, type) or not issubclass(kind, FeatureSource | methods.Generator):
        raise TypeError(f"generator {config.name}: its method must be a ship.methods.Generator")
    build: Any = kind if issubclass(kind, FeatureSource) else partial(FusedGenerator, kind)
    made: FeatureSource = build(config, task, clip, seeds)
    return made
