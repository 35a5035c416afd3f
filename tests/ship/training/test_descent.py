"""Learning rates that fall along a cosine, and what an epoch beyond the last one does."""

import pytest
import torch

from ship.training import CosineDescent, ReplicaOptimizer


def test_rates_fall_to_0_and_stay_there() -> None:
    """Over the planned steps as the cosine has it; beyond them nothing moves any more."""
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = ReplicaOptimizer(torch.optim.SGD, [weight], lr=0.5)
    descent = CosineDescent(optimizer, epochs=2, steps=2)
    rates = []
    for _ in range(3):
        rates.append(float(optimizer.state_dict()["lr"]))
        before = weight.detach().clone()
        descent.epoch(lambda: (weight, weight.long(), None), lambda x, *_: [x.square().sum(1)])
    assert rates == pytest.approx([0.5, 0.25, 0.0])
    assert torch.equal(weight, before)
