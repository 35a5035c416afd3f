"""Counts what torch computes and holds while it runs: operations, and bytes that are alive at once.

Large products are not computed: their operations are known from their shapes, and what becomes of
their numbers is nobody's concern here.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

# A product of so many operations takes longer than it takes to make up its result.
LARGE = 5e7
# Made-up numbers are as small as activations and gradients are.
SPREAD = 0.01


class Counter(TorchDispatchMode):
    """Counts while it is entered; one that stands within another counts alone.

    A multiplication and an addition are two operations, by torch's own formulas (flop_registry);
    elementwise work, norms and decompositions have none there, and are left out. torch's own
    FlopCounterMode cannot follow a gradient with respect to a leaf (WGAN's penalty).

    Attributes:
        flops: operations so far.
        alive: bytes of tensors that were made inside and are still held.
        peak: the most that `alive` has been.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0
        self.alive = 0
        self.peak = 0
        self._held: dict[int, weakref.ref[Any]] = {}
        self._numbers = torch.Generator().manual_seed(0)
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is counted inside."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it."""
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            out = func(*args, **kwargs)
        else:
            out = self._product(func, formula, args, kwargs)
        if not _aliases(func):
            for made in out if isinstance(out, tuple | list) else (out,):
                if isinstance(made, Tensor):
                    self._hold(made)
        return out

    def _product(self, func: Any, formula: Any, args: Any, kwargs: Any) -> Any:
        there = [x.to("meta") if isinstance(x, Tensor) else x for x in args]
        shape = func(*there, **kwargs)
        n = formula(*there, **kwargs, out_val=shape)
        self.flops += n
        if n < LARGE or _square(shape) or args[-1].device.type == "meta":
            return func(*args, **kwargs)
        row = torch.empty(shape.shape[-1:], dtype=shape.dtype)
        row.uniform_(-SPREAD, SPREAD, generator=self._numbers)
        return torch.empty(shape.shape, dtype=shape.dtype).copy_(row)

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return

        def gone(_: object) -> None:
            if self._held.pop(key, None) is not None:
                self.alive -= size

        self._held[key] = weakref.ref(storage, gone)
        self.alive += size
        self.peak = max(self.peak, self.alive)


@cache
def _aliases(func: Any) -> bool:
    """Whether an operator gives back memory that it was given: a view, or what it wrote to."""
    return any(made.alias_info is not None for made in func._schema.returns)


def _square(product: Tensor) -> bool:
    """Whether it may be a covariance: what is made of one needs it to be one."""
    return product.shape[-1] == product.shape[-2]
