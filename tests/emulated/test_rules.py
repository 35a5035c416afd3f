"""The emulated device follows CUDA's rules, and counts launches and waits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.emulated import EmulatedDevice, MixedDevicesError


def on(x: Tensor) -> Tensor:
    """Return the tensor on the device."""
    return x.to("gpu")


def numbers() -> Tensor:
    """Return 0, 1, 2, 3 on the device."""
    return on(torch.arange(4.0))


def attention(*shape: int, mask: Tensor | None = None) -> Tensor:
    """Compute attention of ones on the device."""
    parts = (on(torch.ones(shape)) for _ in range(3))
    return F.scaled_dot_product_attention(*parts, attn_mask=mask, is_causal=mask is None)


class Forgetful(torch.autograd.Function):
    """A function whose backward pass, in another thread, uses a host tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.full((4,), 2.0)


@pytest.mark.parametrize(
    ("mixed", "error"),
    [
        (lambda: numbers() + torch.ones(4), MixedDevicesError),
        (lambda: torch.ones(()).add_(numbers().sum()), MixedDevicesError),
        (lambda: torch.stack([numbers()[0], torch.tensor(1.0)]), MixedDevicesError),
        (lambda: F.embedding(torch.tensor([1]), on(torch.ones(4, 2))), MixedDevicesError),
        (lambda: F.layer_norm(numbers(), (4,), torch.ones(4)), MixedDevicesError),
        (lambda: attention(1, 1, 2, 4, mask=torch.zeros(2, 2)), MixedDevicesError),
        (lambda: torch.ones(4)[on(torch.tensor([1]))], MixedDevicesError),
        (lambda: numbers().index_put_((on(torch.tensor([1])),), torch.ones(1)), MixedDevicesError),
        (lambda: torch._foreach_add_([numbers()], [torch.ones(4)]), MixedDevicesError),
        (lambda: Forgetful.apply(numbers().requires_grad_()).sum().backward(), MixedDevicesError),
        (lambda: numbers().numpy(), TypeError),
        (lambda: torch.randn(4, device="gpu", generator=torch.Generator()), RuntimeError),
    ],
)
def test_operations_that_cuda_rejects_raise_errors(
    device: EmulatedDevice, mixed: Callable[[], object], error: type[Exception]
) -> None:
    """Tensors of two devices, numpy of device memory, and generators of the host."""
    with pytest.raises(error):
        mixed()


@pytest.mark.parametrize(
    ("call", "launches", "waits"),  # numbers() itself is one launch and one wait
    [
        (lambda: numbers() * torch.tensor(2.0), 2, 1),
        (lambda: numbers()[1:].reshape(1, 3).expand(2, 3).unsqueeze(0).mT, 1, 1),
        (lambda: torch.empty_like(numbers().unsqueeze(0).squeeze_(0)), 1, 1),
        (lambda: torch.tensor([1.0, 2.0], device="gpu"), 1, 1),
        (lambda: torch.arange(4, device="gpu"), 1, 0),
        (lambda: torch.arange(4.0).pin_memory().to("gpu", non_blocking=True), 1, 0),
        (lambda: torch.arange(4.0).to("gpu", non_blocking=True), 1, 1),
        (lambda: numbers().tolist(), 2, 2),
        (lambda: bool(numbers().any()), 3, 2),
        (lambda: numbers()[numbers() > 1], 5, 3),
        (lambda: numbers()[[1]], 3, 2),
        (lambda: numbers().repeat_interleave(on(torch.tensor([1, 2, 0, 1]))), 4, 3),
        (lambda: torch.equal(numbers(), numbers()), 3, 3),
        (lambda: F.linear(on(torch.ones(2, 4)), on(torch.ones(3, 4)), on(torch.ones(3))), 4, 3),
        (lambda: F.normalize(numbers(), dim=0), 4, 1),
        (lambda: attention(2, 3, 5, 8), 4, 3),  # one fused kernel
        (lambda: attention(2, 3, 5, 8, mask=on(torch.zeros(5, 5))), 7, 4),  # its mask is padded
    ],
)
def test_launches_and_waits_are_counted(
    device: EmulatedDevice, call: Callable[[], object], launches: int, waits: int
) -> None:
    """Also in inference mode, where composite operators arrive as one."""
    for mode in (torch.enable_grad, torch.inference_mode):
        with mode(), device.counting() as counts:
            call()
        assert (counts.n_launches, counts.n_syncs) == (launches, waits)
