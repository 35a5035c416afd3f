"""Faulty methods are reported in words that say what to do."""

from typing import Any, Literal

import pytest
from torch import Tensor, nn

from ship.clip import FrozenCLIP
from ship.finetuners import build_finetuner
from ship.generators import build_generator
from ship.methods import Finetuner, Generator
from ship.settings import FinetunerSettings, GeneratorSettings
from ship.subsets import FeatureSet
from tests.ship.conftest import final_task

SEEDS = [7, 2]


class Trained(Finetuner):
    """A fine-tuner that moves the text features."""

    def __init__(self, config: Any, task: Any, clip: Any, draw: Any) -> None:
        super().__init__(config, task, clip, draw)
        self.weight = nn.Parameter(self.text.clone())
        self.build(task)

    def build(self, task: Any) -> None:
        """What else it has."""

    def logits(self, images: Tensor, choice: Any) -> Tensor:
        """Scores."""
        return images @ self.weight.T


class Plain(Trained):
    """A sound method."""


class Tied(Trained):
    """A parameter with two names."""

    def build(self, task: Any) -> None:
        """Another name."""
        self.other = self.weight


class Numbered(Trained):
    """A number per seed that is no buffer."""

    def build(self, task: Any) -> None:
        """It comes from images."""
        self.mean = {"of": [float(task.features.mean())]}


class Counted(Trained):
    """An array per seed that is no buffer."""

    def build(self, task: Any) -> None:
        """It comes from images."""
        self.mean = task.features.mean(0).cpu().numpy()


class Sometimes(Trained):
    """An attribute of the first seed only."""

    n_built = 0

    def build(self, task: Any) -> None:
        """The attribute is a tensor, not a buffer."""
        Sometimes.n_built += 1
        if Sometimes.n_built % len(SEEDS) == 1:
            self.mean = task.features.mean(0)


class Reading(Trained):
    """A loss that reads a value on the host."""

    def loss(self, features: Tensor, labels: Tensor, weights: Any) -> Tensor:
        """Of some features alone."""
        return self.weight.sum() * self.weight.sum().item()


class Many(Trained):
    """A loss per row."""

    def loss(self, features: Tensor, labels: Tensor, weights: Any) -> Tensor:
        """Not their mean."""
        return (features @ self.weight.T).sum(1)


class Microbatched(Many):
    """A loss per row, computed in parts."""

    microbatch_size = 6


class Single(Generator):
    """A loss without a name."""

    def __init__(self, config: Any, task: Any, clip: Any, draw: Any) -> None:
        super().__init__(config, task, clip, draw)
        self.weight = nn.Parameter(self.text.clone())

    def loss(self, features: Tensor, *_: Any) -> Any:
        """A number."""
        return self.weight.sum()


class Short(FinetunerSettings):
    """Settings without batch_size."""

    name: Literal["short"] = "short"
    lr: float = 0.1
    epochs: int = 1


class Whole(Short):
    """Complete settings."""

    batch_size: int = 4


class Generating(GeneratorSettings):
    """Settings of a generator."""

    name: Literal["generating"] = "generating"
    lr: float = 0.1
    epochs: int = 1
    batch_size: int = 4


FAULTS = [
    (Short, Plain, "settings of short must have batch_size, which training requires"),
    (Whole, Tied, "weight and other are the same parameter"),
    (Whole, Numbered, "mean differs between seeds. Store it with register_buffer"),
    (Whole, Counted, "mean differs between seeds. Store it with register_buffer"),
    (Whole, Sometimes, "mean differs between seeds. Store it with register_buffer"),
    (Whole, Reading, "Reading.loss cannot run for all seeds at once: it reads a value.*vmapped"),
    (Whole, Many, "Many.loss must return a scalar tensor"),
    (Whole, Microbatched, "Microbatched.loss must return a scalar tensor"),
    (Whole, Single, "method must be a subclass of ship.methods.Finetuner"),
    (Whole, nn.Linear, "method must be a subclass of ship.methods.Finetuner"),
    (Generating, Single, "Single.loss must return a dict with the key 'loss', got Tensor"),
    (
        Generating,
        Plain,
        "generating: its method must be a subclass of ship.methods.Generator",
    ),
]


@pytest.mark.parametrize(("settings", "method", "message"), FAULTS, ids=lambda x: str(x)[-40:])
def test_faulty_method_is_reported_with_advice(
    settings: Any,
    method: Any,
    message: str,
    clip64: FrozenCLIP,
    features: FeatureSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When it is built, or in its first epoch."""
    monkeypatch.setattr(settings, "method", method)
    task = final_task(clip64, features, SEEDS, shots=3)
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        if settings is Generating:
            actual: Any = build_generator(settings(), task, clip64, SEEDS)
        else:
            actual = build_finetuner(settings(), task, None, clip64, SEEDS)
        actual.train_epoch()
