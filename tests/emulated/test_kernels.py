"""The emulated device takes the fused kernels that CUDA would take, and as many launches."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.emulated import EmulatedDevice


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


@pytest.mark.parametrize(
    ("kind", "settings", "launches"),
    [(torch.optim.AdamW, {}, 2), (torch.optim.SGD, {"momentum": 0.9}, 1)],
)
def test_a_fused_optimizer_is_one_kernel(
    device: EmulatedDevice, kind: Any, settings: dict[str, Any], launches: int
) -> None:
    """A second step goes where the CPU's goes; AdamW also counts its steps."""
    torch.manual_seed(0)
    host = [nn.Parameter(torch.randn(4, 3)) for _ in range(3)]
    moved = [nn.Parameter(p.detach().to("gpu")) for p in host]
    both = [kind(params, lr=0.1, fused=True, **settings) for params in (host, moved)]
    for _ in range(2):
        for params, optimizer in zip((host, moved), both, strict=True):
            for parameter in params:
                parameter.grad = torch.ones_like(parameter)
            with device.counting() as counts:
                optimizer.step()
    assert (counts.n_launches, counts.n_syncs) == (launches, 0)
    for one, other in zip(host, moved, strict=True):
        assert torch.equal(one.detach(), other.detach().cpu())
