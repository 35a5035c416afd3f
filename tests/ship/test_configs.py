"""What a trial may be set to, beside what is built of it."""

import importlib
from typing import Any

import pytest

from ship.configs import FINETUNERS, GENERATORS
from ship.registry import Deferred


@pytest.mark.parametrize("table", [GENERATORS, FINETUNERS], ids=lambda table: table.noun)
def test_whatever_can_be_set_can_be_built(table: dict[str, Any]) -> None:
    """A name of a table is that of its settings, and what builds it is there."""
    assert table
    for name, entry in table.items():
        assert entry.name == name
        if entry.build is None:
            assert name == "none"
            continue
        assert isinstance(entry.build, Deferred)
        module, _, attribute = entry.build.where.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))
