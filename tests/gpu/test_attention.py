"""Attention of packed prompts on a device: kernels accept the mask, and names are independent."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ship.architectures import Precision
from ship.clip import FrozenCLIP, make_class_prompts
from ship.clip.causal import _repeat_mask
from ship.clip.packing import pack
from tests.gpu.rounding import (
    EPS,
    GRADIENT,
    LONGEST_SUM,
    SAFETY,
    concatenate,
    relative_error,
    tolerance,
)
from tests.ship.clip.test_text_tower import names_of
from tests.ship.conftest import build_clip

LENGTHS = tuple(3 + index % 7 for index in range(40))
CONTEXT, SEEDS, HEADS, HEAD_WIDTH, BLOCKS = 5, 2, 2, 64, 2
# Scores, softmax and mixture.
OPERATIONS = 3


def get_backend(name: str, device: str) -> SDPBackend:
    """Return the backend "plain", or the fused one that supports float masks on the device."""
    if name == "plain":
        return SDPBackend.MATH
    fused = {"cuda": SDPBackend.EFFICIENT_ATTENTION, "cpu": SDPBackend.FLASH_ATTENTION}
    return fused[device]


def run_attention(device: str, dtype: torch.dtype, backend: SDPBackend) -> tuple[Tensor, Tensor]:
    """Return the output and the gradients of attention with the mask of packed prompts."""
    packing = pack(torch.device(device), dtype, CONTEXT, LENGTHS)
    n, t = packing.mask.shape[:2]
    mask = _repeat_mask(packing, torch.empty(SEEDS, n, t, 1))
    rng = torch.Generator().manual_seed(0)
    shape = (4, SEEDS * n, HEADS, t, HEAD_WIDTH)
    # the inputs are exact in every precision, so that only attention is rounded
    normal = torch.randn(shape, generator=rng).bfloat16().to(device, dtype)
    q, k, v = leaves = [x.clone().requires_grad_() for x in normal[:3]]
    with sdpa_kernel(backend):
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        gradients = torch.autograd.grad((mixed * normal[3]).sum(), leaves)
    return mixed, concatenate(gradients)


@pytest.mark.parametrize("name", ["fused", "plain"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kernels_accept_the_mask_of_packed_prompts(device: str, precision: str, name: str) -> None:
    """Outputs and gradients equal those in float64, and the mask's strides are supported."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    mixed, gradients = run_attention(device, dtype, get_backend(name, device))
    exact = run_attention("cpu", torch.float64, SDPBackend.MATH)
    sums = LONGEST_SUM if precision == "fp32" else 1
    allowed = SAFETY * EPS[precision] * (OPERATIONS * sums) ** 0.5
    assert relative_error(mixed, exact[0]) < allowed
    assert relative_error(gradients, exact[1]) < GRADIENT**0.5 * allowed


def encode_both_ways(clip: FrozenCLIP, context: Tensor, backend: SDPBackend) -> list[Tensor]:
    """Return features and gradients of names packed after contexts, and of separate prompts."""
    names = names_of(40)
    prompts = make_class_prompts(clip, names, context.shape[1])
    ids = torch.arange(len(names), device=clip.device).repeat(len(context))
    results = []
    with clip.use_precision():
        with sdpa_kernel(backend):
            packed = clip.text.encode_shared(
                prompts.prefix(context), prompts.names, prompts.host_lengths
            )
            results.append(packed.flatten(0, 1))
            results += torch.autograd.grad(packed.square()[..., :3].sum(), context)
        whole = prompts.assemble(context.repeat_interleave(len(names), 0), ids)
        plain = clip.text.encode(*whole)
        results.append(plain)
        results += torch.autograd.grad(plain.square()[..., :3].sum(), context)
    return results


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_packed_prompts_equal_separate_ones_in_the_fused_kernel(
    device: str, precision: Precision
) -> None:
    """Names after a shared context do not see each other, and heads are as wide as CLIP's."""
    width = HEADS * HEAD_WIDTH
    clip = build_clip(width=width, layers=BLOCKS, device=device, precision=precision)
    normal = torch.randn(SEEDS, 4, width, generator=torch.Generator().manual_seed(0))
    context = normal.to(device).requires_grad_()
    packed, of_packed, plain, of_plain = encode_both_ways(
        clip, context, get_backend("fused", device)
    )
    # both results are rounded
    assert relative_error(packed, plain) < 2 * tolerance(precision, BLOCKS)
    assert relative_error(of_packed, of_plain) < 2 * tolerance(precision, BLOCKS, GRADIENT)
