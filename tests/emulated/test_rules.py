"""The emulated device rejects operations that CUDA rejects, and counts launches and waits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.emulated import EmulatedDevice, MixedDevicesError


def to_device(x: Tensor) -> Tensor:
    """Return the tensor on the device."""
    return x.to("gpu")


def make_numbers() -> Tensor:
    """Return 0, 1, 2, 3 on the device."""
    return to_device(torch.arange(4.0))


def compute_attention(*shape: int, mask: Tensor | None = None) -> Tensor:
    """Compute attention of ones on the device."""
    inputs = (to_device(torch.ones(shape)) for _ in range(3))
    return F.scaled_dot_product_attention(*inputs, attn_mask=mask, is_causal=mask is None)


class HostConstantInBackward(torch.autograd.Function):
    """A function whose backward pass uses a tensor on the host. It runs in another thread."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.full((4,), 2.0)


@pytest.mark.parametrize(
    ("mixed", "error"),
    [
        (lambda: make_numbers() + torch.ones(4), MixedDevicesError),
        (lambda: torch.ones(()).add_(make_numbers().sum()), MixedDevicesError),
        (lambda: torch.stack([make_numbers()[0], torch.tensor(1.0)]), MixedDevicesError),
        (lambda: F.embedding(torch.tensor([1]), to_device(torch.ones(4, 2))), MixedDevicesError),
        (lambda: F.layer_norm(make_numbers(), (4,), torch.ones(4)), MixedDevicesError),
        (lambda: compute_attention(1, 1, 2, 4, mask=torch.zeros(2, 2)), MixedDevicesError),
        (lambda: torch.ones(4)[to_device(torch.tensor([1]))], MixedDevicesError),
        (
            lambda: make_numbers().index_put_((to_device(torch.tensor([1])),), torch.ones(1)),
            MixedDevicesError,
        ),
        (lambda: torch._foreach_add_([make_numbers()], [torch.ones(4)]), MixedDevicesError),
        (
            lambda: HostConstantInBackward.apply(make_numbers().requires_grad_()).sum().backward(),
            MixedDevicesError,
        ),
        (lambda: make_numbers().numpy(), TypeError),
        (lambda: torch.randn(4, device="gpu", generator=torch.Generator()), RuntimeError),
    ],
)
def test_operations_that_cuda_rejects_raise_errors(
    device: EmulatedDevice, mixed: Callable[[], object], error: type[Exception]
) -> None:
    """They mix two devices, convert device memory to numpy, or use a generator of the host."""
    with pytest.raises(error):
        mixed()


@pytest.mark.parametrize(
    ("call", "launches", "waits"),  # make_numbers() itself is one launch and one wait
    [
        (lambda: make_numbers() * torch.tensor(2.0), 2, 1),
        (lambda: make_numbers()[1:].reshape(1, 3).expand(2, 3).unsqueeze(0).mT, 1, 1),
        (lambda: torch.empty_like(make_numbers().unsqueeze(0).squeeze_(0)), 1, 1),
        (lambda: torch.tensor([1.0, 2.0], device="gpu"), 1, 1),
        (lambda: torch.arange(4, device="gpu"), 1, 0),
        (lambda: torch.arange(4.0).pin_memory().to("gpu", non_blocking=True), 1, 0),
        (lambda: torch.arange(4.0).to("gpu", non_blocking=True), 1, 1),
        (lambda: make_numbers().tolist(), 2, 2),
        (lambda: bool(make_numbers().any()), 3, 2),
        (lambda: make_numbers()[make_numbers() > 1], 5, 3),
        (lambda: make_numbers()[[1]], 3, 2),
        (lambda: make_numbers().repeat_interleave(to_device(torch.tensor([1, 2, 0, 1]))), 4, 3),
        (lambda: torch.equal(make_numbers(), make_numbers()), 3, 3),
        (
            lambda: F.linear(
                to_device(torch.ones(2, 4)), to_device(torch.ones(3, 4)), to_device(torch.ones(3))
            ),
            4,
            3,
        ),
        (lambda: F.normalize(make_numbers(), dim=0), 4, 1),
        (lambda: compute_attention(2, 3, 5, 8), 4, 3),  # one fused kernel
        (
            lambda: compute_attention(2, 3, 5, 8, mask=to_device(torch.zeros(5, 5))),
            7,
            4,
        ),  # its mask is padded
    ],
)
def test_launches_and_waits_are_counted(
    device: EmulatedDevice, call: Callable[[], object], launches: int, waits: int
) -> None:
    """Counts are the same in inference mode, in which torch does not decompose operators."""
    for mode in (torch.enable_grad, torch.inference_mode):
        with mode(), device.counting() as counts:
            call()
        assert (counts.n_launches, counts.n_syncs) == (launches, waits)
