"""An optimizer of stacked parameters, and one seed of a trial that diverges."""

from typing import Any

import pytest
import torch

from ship.training import CosineDescent, ReplicaOptimizer

FACTORS = (1.0, 6.5, 1.0)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_each_replica_takes_torchs_own_steps(kind: Any) -> None:
    """Bit for bit, on a schedule; a parameter's factor multiplies its rate."""
    torch.manual_seed(0)
    starts, pull = torch.randn(3, 2, 4, 2), torch.randn(2, 4, 2)

    def loss(x: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        return (x * own).square().sum((-2, -1))

    wholes = [start.clone().requires_grad_() for start in starts]
    optimizer = ReplicaOptimizer(kind, wholes, 0.1, FACTORS)
    batch = (torch.zeros(2, 1, 1), torch.zeros(2, 1, dtype=torch.long), None)
    CosineDescent(optimizer, 1, 5).epoch(lambda: batch, lambda *_: [loss(x, pull) for x in wholes])
    for start, factor, whole in zip(starts, FACTORS, wholes, strict=True):
        for replica in range(2):
            alone = start[replica].clone().requires_grad_()
            inner = kind([alone], lr=factor * 0.1)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(inner, 5)
            for _ in range(5):
                inner.zero_grad()
                loss(alone, pull[replica]).backward()
                inner.step()
                schedule.step()
            assert torch.equal(whole[replica], alone)
            assert not torch.equal(alone, start[replica])


def test_rates_and_memory_are_put_back() -> None:
    """Of every parameter, whatever its factor: another optimizer goes on to the bit."""
    torch.manual_seed(0)
    wholes = [torch.randn(2, 3).requires_grad_() for _ in FACTORS]
    first = ReplicaOptimizer(torch.optim.Adam, wholes, 0.1, FACTORS)

    def step(optimizer: ReplicaOptimizer, parameters: list[torch.Tensor]) -> None:
        optimizer.zero_grad()
        torch.stack(parameters).square().sum().backward()
        optimizer.step()
        optimizer.scale_rates(0.5)

    step(first, wholes)
    copies = [whole.detach().clone().requires_grad_() for whole in wholes]
    second = ReplicaOptimizer(torch.optim.Adam, copies, 0.1, FACTORS)
    second.load_state_dict(first.state_dict())
    step(first, wholes)
    step(second, copies)
    assert all(torch.equal(one, other) for one, other in zip(wholes, copies, strict=True))
