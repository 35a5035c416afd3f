"""Attention as CUDA would compute it: one fused kernel where there is one, else many.

The values are the CPU's own. Which kernel CUDA would take, and what it launches, is read in torch's
source: transformers/cuda/sdp_utils.cpp (conditions), transformers/attention.cpp (preprocess_mask),
transformers/cuda/attention_backward.cu.

- flash: bf16 or fp16, no mask but the causal one. 1 launch forward, 3 backward.
- efficient (memory-efficient): also fp32 and a float mask. 1 launch forward, and 2 more where the
  mask's strides are no multiples of 8, so that it is padded (a fill and a copy), and 3 more where
  it is boolean and made a float one (two scalars, where). Backward 4 in fp32 (a product, a sum, a
  copy, the kernel), 1 in half precision.
- math: everything else, tensors of other than 4 dimensions among it; counted operator by operator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Kernel = Literal["flash", "efficient"]
HALF: Final = (torch.bfloat16, torch.float16)
FORWARD: Final[dict[Kernel, int]] = {"flash": 1, "efficient": 1}
PADDED_MASK, BOOLEAN_MASK = 2, 3
MASK_ALIGNMENT: Final = 8
LARGEST_FLASH_HEAD: Final = 256


def backward_launches(kernel: Kernel, dtype: torch.dtype) -> int:
    """Kernels of the backward pass."""
    if kernel == "flash":
        return 3
    return 1 if dtype in HALF else 4


def fused_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    is_causal: bool = False,
) -> Kernel | None:
    """The fused kernel that CUDA would take, or None for the plain arithmetic.

    Args:
        query, key, value: (batch, heads, t or s, head width).
        mask: broadcasts to (batch, heads, t, s).
        dropout: of attention weights.
        is_causal: whether a position sees none behind it.
    """
    parts = (query, key, value)
    if dropout or any(x.ndim != 4 or x.dtype != query.dtype for x in parts):
        return None
    if len({x.shape[:2] for x in parts}) > 1 or any(0 in x.shape for x in parts):
        return None  # batches and heads are not broadcast
    if any(x.stride(-1) != 1 for x in parts if x.shape[-1] > 1):
        return None
    width, half = query.shape[-1], query.dtype in HALF
    same = len({x.shape[-1] for x in parts}) == 1
    flash = torch.backends.cuda.flash_sdp_enabled() and half and same and mask is None
    if flash and width <= LARGEST_FLASH_HEAD:
        return "flash"
    aligned = all(x.shape[-1] % (8 if half else 4) == 0 for x in parts)
    takes = half or query.dtype == torch.float32
    if not (torch.backends.cuda.mem_efficient_sdp_enabled() and takes and aligned):
        return None
    if mask is not None:
        if is_causal or mask.dtype not in (torch.bool, query.dtype):
            return None
        if mask.stride(-1) != 1 and mask.shape[-1] > 1:
            return None
    return "efficient"


def forward_launches(kernel: Kernel, mask: Tensor | None) -> int:
    """Kernels of the forward pass, those that prepare the mask among them."""
    launches = FORWARD[kernel]
    if mask is None:
        return launches
    if mask.dtype == torch.bool:
        launches += BOOLEAN_MASK
    if any(stride % MASK_ALIGNMENT for stride in mask.stride()[:-1]):
        launches += PADDED_MASK
    return launches


@dataclass(frozen=True)
class Fused:
    """One call of a fused kernel.

    kernel: which one.
    plain: the CPU tensor behind one on the device.
    wrap: the other way round.
    launch: counts launches of an operator.
    """

    kernel: Kernel
    plain: Callable[[Tensor], Tensor]
    wrap: Callable[[Tensor], Tensor]
    launch: Callable[[str, int], None]

    def __call__(
        self,
        parts: Sequence[Tensor],
        mask: Tensor | None,
        **settings: Any,
    ) -> Tensor:
        """Attention of query, key and value on the device.

        Args:
            parts: query, key and value.
            mask: on the CPU.
            settings: is_causal and scale.
        """
        self.launch(f"attention ({self.kernel})", forward_launches(self.kernel, mask))
        if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
            with_gradient: Tensor = _Differentiable.apply(  # type: ignore[no-untyped-call]
                self, settings, mask, *parts
            )
            return with_gradient
        query, key, value = map(self.plain, parts)
        return self.wrap(
            F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **settings)
        )

    def backward(self, dtype: torch.dtype) -> None:
        """The backward pass is run."""
        self.launch(f"attention ({self.kernel}) backward", backward_launches(self.kernel, dtype))


class _Differentiable(torch.autograd.Function):
    """Fused attention with a gradient; it has no second derivative, as on CUDA."""

    @staticmethod
    def forward(
        ctx: Any, fused: Fused, settings: Any, mask: Tensor | None, *parts: Tensor
    ) -> Tensor:
        ctx.fused = fused
        with torch.enable_grad():
            ctx.held = [
                fused.plain(part).detach().requires_grad_(wanted)
                for part, wanted in zip(parts, ctx.needs_input_grad[3:], strict=True)
            ]
            ctx.out = F.scaled_dot_product_attention(*ctx.held, attn_mask=mask, **settings)
        return fused.wrap(ctx.out.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        fused: Fused = ctx.fused
        fused.backward(ctx.out.dtype)
        wanted = [part for part in ctx.held if part.requires_grad]
        found = iter(torch.autograd.grad(ctx.out, wanted, fused.plain(gradient)))
        gradients = [fused.wrap(next(found)) if x.requires_grad else None for x in ctx.held]
        return (None, None, None, *gradients)
