"""The type checker that tests/conftest.py installs for the annotations of ship."""

from collections.abc import Callable, Hashable
from typing import Any

from beartype import BeartypeConf, beartype

# an int is accepted where the annotation is float, as in mypy
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_compiled: dict[Hashable, Callable[..., Any]] = {}


def typecheck(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks its arguments and its result.

    jaxtyping requests a check for a nested function each time the outer function runs. Checks are
    cached by annotations, because compiling them took a tenth of the time of all tests.

    Args:
        function: jaxtyping's stub with the annotations of the checked function.
    """
    name = (function.__module__, function.__qualname__)
    key = (*name, function.__code__, *function.__annotations__.items())
    if key not in _compiled:
        _compiled[key] = _check(function)
    return _compiled[key]
