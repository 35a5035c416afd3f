"""Exceptions of plugins are one line without a traceback."""

from pathlib import Path

import pytest

from tests.harness.cli.conftest import invoke

pytestmark = pytest.mark.usefixtures("restore_registries")

EXCEPTIONS = {
    "a BaseException": "class Odd(BaseException): pass\n",
    "no text": "class Odd(ValueError):\n    def __str__(self): raise RuntimeError\n",
    "a secret": "class Odd(RuntimeError): pass\n",
}
PLUGIN = """
from typing import Literal
from pydantic import field_validator
from ship.plugins import FinetunerSettings

def fail(place):
    if place == {place!r}:
        raise Odd("no route to http://me:geheim@host, geheim")

fail("import")

class MineConfig(FinetunerSettings):
    method = "none:None"
    name: Literal["mine"] = "mine"
    size: int = 1

    @field_validator("size")
    @classmethod
    def check(cls, value):
        fail("validator")
        return value

    def explain_unused(self, key):
        fail("explain_unused")
"""


@pytest.mark.parametrize(
    ("place", "kind"), list(zip(["import", "validator", "explain_unused"], EXCEPTIONS, strict=True))
)
def test_any_exception_of_a_plugin_is_one_line(tmp_path: Path, place: str, kind: str) -> None:
    """The line has the plugin's path and the error, and masks secrets. The exit code is 2."""
    path = tmp_path / "mine.py"
    path.write_text(EXCEPTIONS[kind] + PLUGIN.format(place=place), "utf-8")
    overrides = ("--set", "finetuner=mine", "--set", "finetuner.size=2")
    result = invoke("--space", "prompt_len", "--plugin", str(path), *overrides, "--dry-run")
    assert result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    # pydantic calls str() of a ValueError, which here raises a RuntimeError
    assert str(path) in line and ("Odd" in line or "RuntimeError" in line)
    assert ("http://***@host, ***" in line) == (kind != "no text")
    assert "geheim" not in result.output
