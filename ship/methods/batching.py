"""Functions for all seeds that code for one seed can call.

`Stack` runs code for one seed under torch.vmap, which cannot share work between seeds, e.g. group
the prompts of all seeds by length. For this purpose, a function can be *batched over seeds*: its
own tensors have the seed axis first, but it is called from code for one seed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_INSIDE_VMAP: ContextVar[bool] = ContextVar("inside_vmap", default=False)


@contextmanager
def inside_vmap() -> Iterator[None]:
    """Tell functions called in this context that they run under vmap over the seeds."""
    token = _INSIDE_VMAP.set(True)
    try:
        yield
    finally:
        _INSIDE_VMAP.reset(token)


def batched_over_seeds(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a function that is written for all seeds, so that code for one seed can call it.

    Callers of the wrapper omit the seed axis, which is the first axis of all tensors. Under vmap,
    the function is called once, with the tensors of all seeds. Otherwise it is called with a seed
    axis of length 1.

    Args:
        function: Function of tensors with a leading seed axis, which returns such a tensor. Its
            other arguments must be the same for all seeds.

    Example:
        >>> @batched_over_seeds
        ... def double(x):
        ...     print("called with", tuple(x.shape))
        ...     return 2 * x
        >>> double(torch.ones(3)).shape
        called with (1, 3)
        torch.Size([3])
        >>> with inside_vmap():
        ...     torch.vmap(double)(torch.ones(5, 3)).shape
        called with (5, 3)
        torch.Size([5, 3])
    """

    def call(*inputs: Any) -> Tensor:
        if _INSIDE_VMAP.get():
            result: Tensor = _BatchedOverSeeds.apply(function, *inputs)  # type: ignore[no-untyped-call]
            return result
        return function(*(x.unsqueeze(0) if isinstance(x, Tensor) else x for x in inputs))[0]

    return call


class _BatchedOverSeeds(torch.autograd.Function):
    """A torch.autograd.Function that is only used for its vmap rule, the method `vmap`.

    If such a Function is applied under vmap, torch calls the rule with the stacked tensors instead
    of `forward`. Autograd records the operations in the rule, so `backward` is not needed either.
    """

    @staticmethod
    def forward(*_: Any) -> Tensor:
        """Raise an error, because the rule replaces this method under vmap."""
        raise RuntimeError(
            "a function batched over seeds supports no transform other than torch.vmap"
        )

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Do nothing: there is no `backward` to save tensors for. torch requires this method."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, function: Callable[..., Tensor], *inputs: Any
    ) -> tuple[Tensor, int]:
        """Call the function with the stacked tensors of all seeds.

        Args:
            info: torch's information about the vmap, including the number of seeds.
            in_dims: Seed axis of each argument of `forward`, which are the function and its inputs.
                None for an argument that is no tensor, or the same tensor for all seeds.
            function: The function.
            inputs: Inputs of the function.

        Returns:
            The function's result, and the position of its seed axis.
        """
        _, *axes = in_dims
        values = [
            _move_seeds_first(x, axis, info.batch_size)
            for x, axis in zip(inputs, axes, strict=True)
        ]
        return function(*values), 0


add_product = batched_over_seeds(torch.baddbmm)
"""Return bias + x @ weight for the arguments (bias, x, weight) of one seed."""


def _move_seeds_first(value: Any, axis: int | None, n_seeds: int) -> Any:
    """Return a tensor with its seed axis first, or any other value unchanged.

    Args:
        value: Tensor, or any other value.
        axis: Position of the seed axis. None for a tensor without it, which gets a new one.
        n_seeds: Length of a new seed axis.
    """
    if not isinstance(value, Tensor):
        return value
    return value.expand(n_seeds, *value.shape) if axis is None else value.movedim(axis, 0)
