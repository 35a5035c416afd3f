"""Annotations are checked while tests run, in a function that is made at each call, too."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from ship.metrics import harmonic_mean
from tests.checked import checked


def adder(width: str) -> Callable[..., Tensor]:
    """A function of its own at each call, as there are some in ship."""

    @jaxtyped(typechecker=checked)
    def add(a: Float[Tensor, width], b: Float[Tensor, width]) -> Float[Tensor, width]:
        return a + b

    return add


def test_shapes_are_checked_in_each_function() -> None:
    """Functions with the same annotations and with others are checked."""
    for width in ("n", "n", "n n"):
        shape = (2,) * len(width.split())
        assert adder(width)(torch.ones(shape), torch.ones(shape)).shape == shape
        with pytest.raises(TypeCheckError):
            adder(width)(torch.ones(shape), torch.ones((3,) * len(shape)))


def test_ship_is_checked() -> None:
    """The hook of tests/conftest.py installs the checks."""
    with pytest.raises(TypeCheckError):
        harmonic_mean("1", "2")
