"""Exceptions of plugins are one line, not a traceback."""

from pathlib import Path

import pytest

from tests.harness.cli.conftest import invoke

pytestmark = pytest.mark.usefixtures("restore_registries")

RAISED = {
    "a BaseException": "class Odd(BaseException): pass\n",
    "no text": "class Odd(ValueError):\n    def __str__(self): raise RuntimeError\n",
    "a secret": "class Odd(RuntimeError): pass\n",
}
PLUGIN = """
from typing import Literal
from pydantic import field_validator
from ship.plugins import FinetunerSettings

def strike(place):
    if place == {place!r}:
        raise Odd("no route to http://me:geheim@host, geheim")

strike("import")

class MineConfig(FinetunerSettings):
    method = "none:None"
    name: Literal["mine"] = "mine"
    size: int = 1

    @field_validator("size")
    @classmethod
    def check(cls, value):
        strike("validator")
        return value

    def explain_unused(self, key):
        strike("explain_unused")
"""


@pytest.mark.parametrize(
    ("place", "kind"), list(zip(["import", "validator", "explain_unused"], RAISED, strict=True))
)
def test_any_exception_of_a_plugin_is_one_line(tmp_path: Path, place: str, kind: str) -> None:
    """It names the plugin and the error, shows no secret of an address, and exits with 2."""
    path = tmp_path / "mine.py"
    path.write_text(RAISED[kind] + PLUGIN.format(place=place), "utf-8")
    keys = ("finetuner=mine", "finetuner.size=2")
    configurations = [part for key in keys for part in ("--set", key)]
    result = invoke("--space", "prompt_len", "--plugin", str(path), *configurations, "--dry-run")
    assert result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    # pydantic asks a ValueError for its text, which raises the other error
    assert str(path) in line and ("Odd" in line or "RuntimeError" in line)
    assert ("http://***@host, ***" in line) == (kind != "no text")
    assert "geheim" not in result.output
