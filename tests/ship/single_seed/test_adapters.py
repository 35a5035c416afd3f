"""Methods for one seed behind the contracts of a trial's replicas."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ship.clip.frozen_clip import FrozenCLIP
from ship.configs import FINETUNERS, GENERATORS
from ship.features.feature_set import FeatureSet
from ship.plugins import load_plugin
from ship.registry import Origin
from ship.single_seed import SeedTask, single_seed_finetuner
from ship.single_seed.state import resumable
from ship.testing import Bench, check_finetuner, check_generator
from ship.training import CheckpointError, capture, restore
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.ship.conftest import build_features, selection_task

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
SEEDS = [7, 2, 0]


@pytest.fixture
def example(own_tables: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package of tests/third_party in the tables, without being installed."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY / "ship_example"))
    import ship_example

    origin = Origin("package ship-example", "ship-example 0.1")
    GENERATORS.add(ship_example.residual_text, origin)
    FINETUNERS.add(ship_example.ridge, origin)
    load_plugin(THIRD_PARTY / "nearest_mean.py")
    yield ship_example
    for name in [name for name in sys.modules if name.partition(".")[0] == "ship_example"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def bench(clip64: FrozenCLIP) -> Bench:
    """The tiny backbone."""
    return Bench(clip64, build_features(clip64))


@pytest.mark.parametrize("name", ["residual_text", "noisy_text"])
def test_single_seed_generators_keep_the_contract(example: Any, name: str, bench: Bench) -> None:
    """Trained by epochs with an optimizer and a random generator; and not fitted at all."""
    found = list(check_generator(name, bench=bench))
    assert len(found) >= 9
    assert [str(one) for one in found if not one.holds] == []


@pytest.mark.parametrize("name", ["ridge", "nearest_mean"])
def test_single_seed_finetuners_keep_the_contract(example: Any, name: str, bench: Bench) -> None:
    """Solved when they are built, and trained by epochs."""
    found = list(check_finetuner(name, bench=bench))
    assert len(found) >= 20
    assert [str(one) for one in found if not one.holds] == []


def test_a_seeds_task_has_its_own_rows(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """No padding, and nothing of the pictures of unseen classes."""
    task = selection_task(clip64, features, SEEDS, shots=3)
    for replica in range(3):
        own = SeedTask.of(task, replica)
        assert len(own.features) == len(own.labels) == task.counts[replica]
        assert bool(own.seen[own.labels].all()) and not hasattr(own, "unseen_features")
        assert len(own.held_out) == task.held_out_counts[replica]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_is_put_back_to_the_bit(kind: type[torch.optim.Optimizer]) -> None:
    """Its memory and its rate: three steps in one go, or stopped after the second."""

    def made() -> tuple[nn.Linear, torch.optim.Optimizer]:
        layer = nn.Linear(3, 2).double()
        for parameter in layer.parameters():
            nn.init.constant_(parameter, 0.5)
        momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return layer, kind(layer.parameters(), lr=0.1, **momentum)  # type: ignore[call-arg]

    def step(layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.arange(3.0).double()).square().sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5

    whole, first, second = made(), made(), made()
    for _ in range(3):
        step(*whole)
    for _ in range(2):
        step(*first)
    parts = [resumable({"layer": layer, "optimizer": own}) for layer, own in (first, second)]
    restore(parts[1], capture(parts[0]))
    step(*second)
    for ours, theirs in zip(second[0].parameters(), whole[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    broken = {**capture(parts[0]), "optimizer.9.step": torch.zeros(())}
    with pytest.raises(CheckpointError, match="no parameter 9"):
        restore(parts[1], broken)


def test_seeds_must_learn_alike(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Tensors of different shapes cannot be kept side by side, which is said."""

    class Uneven:
        epochs = 0

        def __init__(self, config: Any, task: SeedTask, synthetic: Any, clip: Any, seed: int):
            self.held = torch.zeros(1 + seed)

        def train_epoch(self) -> dict[str, float]:
            return {}

        def logits(self, pictures: Tensor) -> Tensor:
            return pictures

        def learned(self) -> dict[str, Tensor]:
            return {"held": self.held}

        def parts(self) -> dict[str, Tensor]:
            return {}

    task = selection_task(clip64, features, SEEDS)
    made = single_seed_finetuner(Uneven)(None, task, None, clip64, SEEDS)
    with pytest.raises(ValueError, match="the same shapes"):
        made.state_dict()


def test_a_trial_of_single_seed_methods_resumes(
    example: Any, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """A whole trial, stopped at any epoch, ends with the numbers of one that was not."""
    config = TrialConfig.model_validate(
        {
            "backbone": "tiny", "dataset": "tiny", "shots": 3,
            "generator": {"name": "residual_text", "epochs": 3},
            "finetuner": {"name": "nearest_mean", "epochs": 3},
        }
    )  # fmt: skip
    whole = list(run_trial(config, SEEDS, features, clip))
    assert whole[-1].stage == "test"
    for stop in range(1, len(whole) - 1, 3):
        begun = run_trial(config, SEEDS, features, clip)
        for _ in range(stop):
            next(begun)
        resumed = run_trial(config, SEEDS, features, clip, resume=begun.checkpoint())
        assert list(resumed)[-1] == whole[-1]
