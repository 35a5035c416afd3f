"""Small settings of every generator, and tasks whose replicas differ in what they see."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ship.clip import FrozenCLIP
from ship.generators import GENERATORS, FeatureSource, build_generator
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.testing import Bench
from tests.told import told

# what is built and how; every entry of GENERATORS that builds something is here
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    case: (case.partition("/")[0], settings)
    for case, settings in told(__file__, "cases.yaml").items()
}
VAE = CASES["vae"][1]
# samples of these do not depend on noise
WITHOUT_NOISE = ("vae/global", "vae/fixed")


def build(case: str, task: Task, clip: FrozenCLIP, seeds: Sequence[int]) -> FeatureSource:
    """The case's generator, not fitted."""
    name, settings = CASES[case]
    made = build_generator(GENERATORS[name](**settings), task, clip, seeds)
    assert made is not None
    return made


def fit(generator: FeatureSource) -> list[dict[str, Tensor]]:
    """Train as a trial does; the metrics of each epoch."""
    epochs = []
    for _ in range(generator.epochs):
        epochs.append(generator.train_epoch())
        if generator.finished:
            break
    return epochs


def uneven_task(clip: FrozenCLIP, features: FeatureSet, seeds: Sequence[int]) -> Task:
    """A task in which replicas differ in classes, in training and in validation images."""
    return Bench(clip, features).task(seeds)
