"""Pinned host memory, pretended: a register of storages, and what torch asks about them.

The CPU build of torch pins nothing, so that here a pinned tensor is an ordinary one whose storage
is on a list. Views share the storage and are pinned with it, as on CUDA.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

# functions whose pin_memory=True is followed
FACTORIES: Final = ("empty", "empty_like", "zeros", "ones", "full", "tensor", "randn", "rand")


class Pinned:
    """Which host tensors are pinned."""

    def __init__(self) -> None:
        # A weak reference keeps a storage's address from being given to another one.
        self._storages: dict[int, StorageWeakRef] = {}

    def pin(self, tensor: Tensor) -> Tensor:
        """Pin a tensor's storage; the tensor itself is returned."""
        self._storages = {k: v for k, v in self._storages.items() if not v.expired()}
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = StorageWeakRef(storage)
        return tensor

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages


@contextmanager
def pinned_factories(pinned: Pinned) -> Iterator[None]:
    """Follow pin_memory=True of torch.empty and the like."""
    with ExitStack() as stack:
        for name in FACTORIES:
            factory = _following(getattr(torch, name), pinned)
            stack.enter_context(mock.patch.object(torch, name, factory))
        yield


def _following(factory: Callable[..., Tensor], pinned: Pinned) -> Callable[..., Tensor]:
    @wraps(factory)
    def made(*args: Any, pin_memory: bool | None = False, **kwargs: Any) -> Tensor:
        tensor = factory(*args, **kwargs)
        return pinned.pin(tensor) if pin_memory else tensor

    return made
