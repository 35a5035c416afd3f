"""What checks annotations while tests run; named in tests/conftest.py."""

from collections.abc import Callable, Hashable
from typing import Any

from beartype import BeartypeConf, beartype

# an int may stand for a float, as the static type checker has it
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_made: dict[Hashable, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with what checks its arguments and its answer.

    jaxtyping asks again for a function within a function whenever the outer one runs. The check is
    compiled for the first of those that have the same annotations: it took a tenth of all tests.

    Args:
        function: jaxtyping's empty one, with the annotations of the function that is checked.
    """
    named = (function.__module__, function.__qualname__)
    key = (*named, function.__code__, *function.__annotations__.items())
    if key not in _made:
        _made[key] = _check(function)
    return _made[key]
