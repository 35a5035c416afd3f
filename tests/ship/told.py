"""Cases that stand as YAML beside the test that goes through them."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def told(test: str, name: str) -> Any:
    """What the file of this name says, in the folder of the test file."""
    return YAML(typ="safe").load((Path(test).parent / name).read_text("utf-8"))
