"""Methods for one seed behind the contracts of a trial's replicas."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.single_seed import SeedTask, single_seed_finetuner
from ship.single_seed.state import resumable
from ship.training import CheckpointError, capture, restore
from tests.ship.conftest import selection_task

SEEDS = [7, 2, 0]


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
