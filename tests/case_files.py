"""Cases that stand as YAML beside the test that goes through them."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML


def load_cases(test: str, name: str) -> Any:
    """What the file of this name says, in the folder of the test file."""
    return YAML(typ="safe").load((Path(test).parent / name).read_text("utf-8"))


def put(owner: Any, place: str, value: Any) -> None:
    """Replace what stands at keys, attributes and numbers with dots between."""
    *steps, last = (int(step) if step.isdigit() else step for step in place.split("."))
    for step in steps:
        owner = getattr(owner, step) if hasattr(owner, str(step)) else owner[step]
    if isinstance(owner, list | dict):
        owner[last] = value
    else:
        setattr(owner, str(last), value)


def some_quick(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Return parameters of which only `quick` are in the default run; CI runs all of them."""
    return [
        case
        if case in quick
        else pytest.param(*case if isinstance(case, tuple) else (case,), marks=pytest.mark.slow)
        for case in cases
    ]
