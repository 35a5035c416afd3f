"""Methods for one seed behind the contracts of a trial's replicas."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

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
def test_an_optimizer_is_put_back_to_the_bit(kind: Any) -> None:
    """Its memory and its rate: three steps in one go, or stopped after the second."""

    def made() -> tuple[Tensor, torch.optim.Optimizer]:
        held = torch.full((2, 3), 0.5, dtype=torch.float64, requires_grad=True)
        momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return held, kind([held], lr=0.1, **momentum)

    def step(held: Tensor, optimizer: torch.optim.Optimizer, times: int) -> None:
        for _ in range(times):
            optimizer.zero_grad()
            (held * torch.arange(3)).square().sum().backward()
            optimizer.step()
            optimizer.param_groups[0]["lr"] *= 0.5

    whole, first, second = made(), made(), made()
    step(*whole, 3)
    step(*first, 2)
    parts = [resumable({"held": held, "optimizer": own}) for held, own in (first, second)]
    restore(parts[1], capture(parts[0]))
    step(*second, 1)
    assert torch.equal(second[0], whole[0])
    broken = {**capture(parts[0]), "optimizer.9.step": torch.zeros(())}
    with pytest.raises(CheckpointError, match="no parameter 9"):
        restore(parts[1], broken)


def test_seeds_must_learn_alike(clip64: FrozenCLIP, features: FeatureSet) -> None:
    """Tensors of different shapes cannot be kept side by side, which is said."""

    def uneven(config: Any, task: SeedTask, synthetic: Any, clip: Any, seed: int) -> Any:
        held = {"held": torch.zeros(1 + seed)}
        others = dict.fromkeys(("train_epoch", "logits", "parts"), dict)
        return SimpleNamespace(epochs=0, learned=lambda: held, **others)

    task = selection_task(clip64, features, SEEDS)
    made = single_seed_finetuner(uneven)(None, task, None, clip64, SEEDS)
    with pytest.raises(ValueError, match="the same shapes"):
        made.state_dict()
