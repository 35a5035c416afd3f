"""Copies between host and device keep every value."""

import pytest
import torch
from torch import Tensor

from ship.seeds import to_cpu, to_device

COPIES = 64


def values() -> dict[str, Tensor]:
    """Return tensors of the types that training copies."""
    rng = torch.Generator().manual_seed(0)
    return {
        "float": torch.randn(1000, 33, generator=rng),
        "transposed": torch.randn(40, 30, generator=rng).T,
        "extreme": torch.tensor([torch.finfo(torch.float32).tiny, -0.0, torch.inf, -torch.inf]),
        "index": torch.tensor([0, -1, 2**53]),
        "flag": torch.tensor([[True, False]]),
        "empty": torch.zeros(0, 3),
    }


def test_values_are_unchanged_on_the_device_and_back(device: str) -> None:
    """Pinned, non-blocking copies and the single transfer back keep values, shapes and types."""
    host = values()
    remote = {name: to_device(value, torch.device(device)) for name, value in host.items()}
    assert all(value.device.type == device for value in remote.values())
    back = to_cpu(remote)
    assert list(back) == list(host)
    for name, value in host.items():
        assert back[name].dtype == value.dtype and torch.equal(back[name], value), name


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_pinned_memory_is_not_reused_before_its_copy_is_done(device: str, size: int) -> None:
    """Many copies in a row, behind a busy device, arrive with their own values."""
    busy = torch.ones(512, 512, device=device)
    for _ in range(8 if device == "cpu" else 200):
        busy = busy @ busy / 512
    copies = [
        to_device(torch.full((size,), float(place)), torch.device(device))
        for place in range(COPIES)
    ]
    for place, copy in enumerate(copies):
        assert bool((copy == place).all())
