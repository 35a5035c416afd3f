"""Kernels of a pass through the text tower, each with its operations and its bytes of memory.

The tower runs on torch's meta device, which has shapes and no values: the very code that a GPU runs
says which operators come, and nothing is computed. Bytes are those of an operator's inputs and
outputs, so they are an upper bound: a GPU finds some of them in its cache.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ship.clip.frozen_clip import FrozenCLIP
from ship.clip.text_tower import TextTower

META: Final = torch.device("meta")
# They give a tensor its memory or another shape, and start no kernel.
NO_KERNEL: Final = ("empty", "new_empty", "_unsafe_view")


class Kernel(NamedTuple):
    """One operator. flops: of products, 0 for others; n_bytes: read and written."""

    flops: float
    n_bytes: float


class Kernels(TorchDispatchMode):
    """Notes every operator that starts a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Kernel] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if not views and not name.startswith(NO_KERNEL):
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **kwargs, out_val=made) if count else 0
            touched = sum(map(n_bytes, _tensors((args, kwargs, made))))
            self.noted.append(Kernel(float(flops), float(touched)))
        return made


def n_bytes(x: Tensor) -> int:
    """Memory behind a tensor; what is expanded is there once."""
    sizes = (size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
    return x.element_size() * int(torch.Size(sizes).numel())


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for inner in tree:
            yield from _tensors(inner)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


class Passes:
    """Passes through a backbone's text tower as an accelerator makes them (fewest launches)."""

    def __init__(self, backbone: str, dtype: torch.dtype | None = None) -> None:
        """Take a backbone's tower to the meta device.

        Args:
            backbone: NAME:random.
            dtype: of its blocks; None: float32.
        """
        clip = FrozenCLIP.load(backbone)
        self._model: Any = clip._model.to(META)
        self._tower = TextTower(self._model, dtype)
        # grids ask for the same passes again and again
        self._few = lru_cache(maxsize=None)(self._plain)
        self.shared = lru_cache(maxsize=None)(self._shared)

    def plain(self, prompts: int, tokens: int, gradient: bool) -> list[Kernel]:
        """Prompts of so many tokens each; the gradient goes to all of their tokens.

        Operations and bytes of each kernel are linear in the number of prompts (but for weights,
        which are read once), so that two small passes tell of any other.
        """
        small, large = (self._few(n, tokens, gradient) for n in (32, 64))
        part = (prompts - 32) / 32
        return [
            Kernel(*(a + part * (b - a) for a, b in zip(one, other, strict=True)))
            for one, other in zip(small, large, strict=True)
        ]

    def _plain(self, prompts: int, tokens: int, gradient: bool) -> tuple[Kernel, ...]:
        x = torch.empty(prompts, tokens, self._tower.width, device=META, requires_grad=gradient)
        eot = torch.empty(prompts, dtype=torch.long, device=META)
        return self._kernels(lambda: self._tower.encode(x, eot), gradient)

    def _shared(
        self, contexts: int, prefix: int, lengths: tuple[int, ...], gradient: bool
    ) -> tuple[Kernel, ...]:
        """Names of so many tokens, packed behind contexts that a gradient may go to."""
        width = self._tower.width
        x = torch.empty(contexts, prefix, width, device=META, requires_grad=gradient)
        tails = torch.empty(len(lengths), max(lengths), width, device=META)
        return self._kernels(lambda: self._tower.encode_shared(x, tails, lengths), gradient)

    def picture(self, edge: int) -> float:
        """Operations that one picture takes in the image tower."""
        with torch.no_grad(), Kernels() as kernels:
            self._model.encode_image(torch.empty(1, 3, edge, edge, device=META))
        return sum(kernel.flops for kernel in kernels.noted)

    def _kernels(self, run: Callable[[], Tensor], gradient: bool) -> tuple[Kernel, ...]:
        with torch.set_grad_enabled(gradient), as_on_cuda():
            run()  # masks are made once
            with Kernels() as kernels:
                made = run()
                if gradient:
                    made.sum().backward()
        return tuple(kernels.noted)


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Attention in one kernel, which torch takes apart on the meta device; and memory to pin."""
    attention = mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", _fused)
    with attention, mock.patch.object(Tensor, "pin_memory", lambda x: x):
        yield


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    (n, heads, t), s = query.shape[:3], key.shape[2]
    bias = None if attn_mask is None else attn_mask.expand(n, heads, t, s)
    made: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, 0.0, is_causal
    )[0]
    return made
