"""Test cases in YAML files next to the tests that use them."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML


def load_cases(test: str, name: str) -> Any:
    """Read a YAML file from the folder of a test file.

    Args:
        test: `__file__` of the test.
        name: Name of the YAML file.
    """
    return YAML(typ="safe").load((Path(test).parent / name).read_text("utf-8"))


def set_value(owner: Any, path: str, value: Any) -> None:
    """Replace a value within nested mappings, lists and objects.

    Args:
        owner: The outermost mapping, list or object.
        path: Keys, attributes and indices, separated by dots.
        value: The new value.
    """
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in steps:
        owner = getattr(owner, step) if hasattr(owner, str(step)) else owner[step]
    if isinstance(owner, list | dict):
        owner[last] = value
    else:
        setattr(owner, str(last), value)


def mark_slow_cases(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Return pytest parameters in which all cases except `quick` are marked slow."""
    return [
        case
        if case in quick
        else pytest.param(*case if isinstance(case, tuple) else (case,), marks=pytest.mark.slow)
        for case in cases
    ]
