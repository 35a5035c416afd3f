"""Copies between host and device keep every value."""

import pytest
import torch
from torch import Tensor

from ship.seeds import to_cpu, to_device

COPIES = 64


def make_values() -> dict[str, Tensor]:
    """Return tensors of all types that are copied in training."""
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
    """Values, shapes and types are kept by pinned, non-blocking copies, and by the copy back."""
    values = make_values()
    on_device = {name: to_device(value, torch.device(device)) for name, value in values.items()}
    assert all(value.device.type == device for value in on_device.values())
    copies = to_cpu(on_device)
    assert list(copies) == list(values)
    for name, value in values.items():
        assert copies[name].dtype == value.dtype and torch.equal(copies[name], value), name


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_pinned_memory_is_not_reused_before_its_copy_is_done(device: str, size: int) -> None:
    """Many copies are queued while the device is busy, and each has its own values."""
    product = torch.ones(512, 512, device=device)
    for _ in range(8 if device == "cpu" else 200):
        product = product @ product / 512
    copies = [
        to_device(torch.full((size,), float(number)), torch.device(device))
        for number in range(COPIES)
    ]
    for number, copy in enumerate(copies):
        assert bool((copy == number).all())
