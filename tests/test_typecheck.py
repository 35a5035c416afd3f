"""Annotations are checked while tests run, including those of nested functions."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from ship.metrics import harmonic_mean
from tests.typecheck import typecheck


def make_adder(width: str) -> Callable[..., Tensor]:
    """Return a new function in each call, like the nested functions of ship."""

    @jaxtyped(typechecker=typecheck)
    def add(a: Float[Tensor, width], b: Float[Tensor, width]) -> Float[Tensor, width]:
        return a + b

    return add


def test_shapes_are_checked_in_each_function() -> None:
    """Repeated definitions are checked, with the same annotations and with others."""
    for width in ("n", "n", "n n"):
        shape = (2,) * len(width.split())
        assert make_adder(width)(torch.ones(shape), torch.ones(shape)).shape == shape
        with pytest.raises(TypeCheckError):
            make_adder(width)(torch.ones(shape), torch.ones((3,) * len(shape)))


def test_functions_of_ship_are_checked() -> None:
    """The import hook of tests/conftest.py installs the checks."""
    with pytest.raises(TypeCheckError):
        harmonic_mean("1", "2")
