"""A function that is written for many rows, called for one seed: under vmap the seeds are rows.

What such a function does to save work (packing, grouping by length, fused kernels) it then does for
all seeds, and autograd records its own operations; vmap is not asked what to make of them.

It needs the public rule for vmap of a torch.autograd.Function alone, whose forward is never run.
Gradients are taken outside of vmap: a sum of losses, and backward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_MAPPED: ContextVar[bool] = ContextVar("mapped", default=False)


@contextmanager
def mapped() -> Iterator[None]:
    """Inside, folded functions are called under vmap over the seeds."""
    token = _MAPPED.set(True)
    try:
        yield
    finally:
        _MAPPED.reset(token)


def folded(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function without the leading axis of its tensors and of its result.

    For one seed it is called with an axis of length 1; under vmap once, with that of all seeds.

    Args:
        function: of tensors with a leading axis, and of what is the same for all seeds.
    """

    def call(*inputs: Any) -> Tensor:
        if _MAPPED.get():
            made: Tensor = _Fold.apply(function, *inputs)  # type: ignore[no-untyped-call]
            return made
        return function(*(x.unsqueeze(0) if isinstance(x, Tensor) else x for x in inputs))[0]

    return call


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise RuntimeError("a folded function was called under another transform than vmap")

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Nothing is kept: autograd sees the function's own operations."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, function: Callable[..., Tensor], *inputs: Any
    ) -> tuple[Tensor, int]:
        """The function of all seeds' tensors, each with their axis in front."""
        places = in_dims[1:]
        own = (_leading(x, at, info.batch_size) for x, at in zip(inputs, places, strict=True))
        return function(*own), 0


def _leading(value: Any, place: int | None, n: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.expand(n, *value.shape) if place is None else value.movedim(place, 0)
