"""The emulated device takes the fused kernels that CUDA would take, and as many launches."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.emulated import EmulatedDevice
from tests.emulated.operators import multi_tensor_launches


def attention(
    *shape: int, mask: str = "", dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], dict[str, Any]]:
    """Random query, key and value on the device, and what goes with them."""
    parts = [torch.randn(*shape, dtype=dtype).to("gpu").requires_grad_() for _ in range(3)]
    if mask == "causal":
        return parts, {"is_causal": True}
    rows = torch.zeros(shape[-2], 16 if mask == "aligned" else shape[-2], dtype=dtype)
    made = rows[:, : shape[-2]]
    if mask == "boolean":
        made = rows == 0
    return parts, {"attn_mask": made.to("gpu") if mask else None}


HALF = torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "mask", "dtype", "forward", "backward"),
    [
        ((2, 3, 5, 8), "", torch.float32, 1, 4),
        ((2, 3, 5, 8), "causal", torch.float32, 1, 4),
        ((2, 3, 8, 8), "aligned", torch.float32, 1, 4),
        ((2, 3, 5, 8), "float", torch.float32, 3, 4),
        ((2, 3, 5, 8), "boolean", torch.float32, 6, 4),
        ((2, 3, 5, 8), "causal", HALF, 1, 3),
        ((2, 3, 8, 8), "aligned", HALF, 1, 1),
        # five dimensions, or heads too narrow: two scalings, two products, softmax's six, and more
        ((1, 2, 3, 5, 8), "", torch.float32, 10, 7),
        ((1, 2, 3, 5, 8), "float", torch.float32, 11, 7),
        ((1, 2, 3, 5, 8), "causal", torch.float32, 16, 7),
        ((2, 3, 5, 6), "", torch.float32, 10, 7),
        ((2, 3, 5, 8), "", torch.float64, 10, 7),
    ],
)  # fmt: skip
def test_attention_is_one_kernel_where_cuda_has_one(
    device: EmulatedDevice,
    shape: tuple[int, ...],
    mask: str,
    dtype: torch.dtype,
    forward: int,
    backward: int,
) -> None:
    """Four dimensions, with a float mask or a causal one; its values are the CPU's."""
    parts, given = attention(*shape, mask=mask, dtype=dtype)
    with device.counting() as counts:
        out = F.scaled_dot_product_attention(*parts, **given)
    assert counts.n_launches == forward
    gradient = torch.ones_like(out)
    with device.counting() as counts:
        found = torch.autograd.grad(out, parts, gradient)
    assert counts.n_launches == backward
    host = [part.detach().cpu().requires_grad_() for part in parts]
    same = {name: x.cpu() if isinstance(x, Tensor) else x for name, x in given.items()}
    expected = F.scaled_dot_product_attention(*host, **same)
    wanted = [expected, *torch.autograd.grad(expected, host, gradient.cpu())]
    # the CPU has a kernel of its own where CUDA has none
    exact = {} if len(shape) == 4 and forward >= 10 else {"rtol": 0, "atol": 0}
    torch.testing.assert_close([x.cpu() for x in (out, *found)], wanted, **exact)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), device.counting() as counts:
            F.scaled_dot_product_attention(*parts, **given)
        assert counts.n_launches == forward


def test_torchs_own_switch_of_fused_attention_is_followed(device: EmulatedDevice) -> None:
    """sdpa_kernel(MATH) asks for the plain arithmetic; a fused kernel has no second derivative."""
    parts, _ = attention(2, 3, 5, 8)
    with sdpa_kernel(SDPBackend.MATH), device.counting() as counts:
        F.scaled_dot_product_attention(*parts)
    assert counts.n_launches == 10
    out = F.scaled_dot_product_attention(*parts)
    (first,) = torch.autograd.grad(out.sum(), parts[:1], create_graph=True)
    with pytest.raises(RuntimeError):
        first.sum().backward()


@pytest.mark.parametrize(
    ("kind", "settings", "launches"),
    [
        (torch.optim.AdamW, {}, 8),  # foreach is the default, as on CUDA
        (torch.optim.AdamW, {"foreach": False}, 24),
        (torch.optim.AdamW, {"fused": True}, 1),
        (torch.optim.SGD, {"momentum": 0.9}, 3),
        (torch.optim.SGD, {"momentum": 0.9, "fused": True}, 1),
    ],
)
def test_optimizers_take_the_kernels_that_they_take_on_cuda(
    device: EmulatedDevice, kind: Any, settings: dict[str, Any], launches: int
) -> None:
    """A second step, of three parameters; it goes where the CPU's goes."""
    torch.manual_seed(0)
    host = [nn.Parameter(torch.randn(4, 3)) for _ in range(3)]
    moved = [nn.Parameter(p.detach().to("gpu")) for p in host]
    alike = settings.get("fused") or settings.get("foreach") is False
    both = [
        kind(params, lr=0.1, **({} if alike or params is moved else {"foreach": True}), **settings)
        for params in (host, moved)
    ]
    for _ in range(2):
        for params, optimizer in zip((host, moved), both, strict=True):
            for parameter in params:
                parameter.grad = torch.ones_like(parameter)
            with device.counting() as counts:
                optimizer.step()
    assert counts.n_launches == launches and counts.n_syncs == 0
    for one, other in zip(host, moved, strict=True):
        assert torch.equal(one.detach(), other.detach().cpu())


def test_large_lists_take_several_launches() -> None:
    """A kernel's arguments hold 320 chunks of 65,536 numbers, and so many tensors."""
    chunk, small = torch.empty(65_536), torch.empty(2)
    assert multi_tensor_launches([[small] * 110]) == 1
    assert multi_tensor_launches([[small] * 111]) == 2
    assert multi_tensor_launches([[small] * 36] * 4) == 1
    assert multi_tensor_launches([[small] * 37] * 4) == 2
    assert multi_tensor_launches([[chunk.expand(320, -1).reshape(-1)]]) == 1
    assert multi_tensor_launches([[chunk.expand(321, -1).reshape(-1)]]) == 2
    assert multi_tensor_launches([[small.double(), small]]) == 2
    assert multi_tensor_launches([[]]) == 0
