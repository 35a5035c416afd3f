"""Small settings of every generator, and tasks whose seeds differ in classes and images."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ship.clip import FrozenCLIP
from ship.generators import GENERATORS, FeatureSource, build_generator
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.testing import Bench
from tests.case_files import load_cases

# settings of every entry of GENERATORS with a method
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    case: (case.partition("/")[0], settings)
    for case, settings in load_cases(__file__, "cases.yaml").items()
}
VAE = CASES["vae"][1]
# samples of these do not depend on noise
WITHOUT_NOISE = ("vae/global", "vae/fixed")


def build(case: str, task: Task, clip: FrozenCLIP, seeds: Sequence[int]) -> FeatureSource:
    """Build a case's generator, not fitted."""
    name, settings = CASES[case]
    actual = build_generator(GENERATORS[name](**settings), task, clip, seeds)
    assert actual is not None
    return actual


def fit(generator: FeatureSource) -> list[dict[str, Tensor]]:
    """Train as in a trial, and return the metrics of each epoch."""
    epochs = []
    for _ in range(generator.epochs):
        epochs.append(generator.train_epoch())
        if generator.finished:
            break
    return epochs


def uneven_task(clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int]) -> Task:
    """Return a task whose seeds differ in classes, training and validation images."""
    return Bench(clip, features).task(seeds)
