"""Each format against a committed page; SHIP_WRITE_GOLDEN=1 writes the pages anew, to be read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.render.latex import latex
from reports.render.plain import markdown
from reports.render.terminal import terminal_text
from reports.tables.model import Table
from tests.reports.pages import collapsed, eventful, torn

GOLDEN = Path(__file__).parent / "golden"

_FORMS: dict[str, Callable[[list[Table]], str]] = {
    "-80.txt": lambda tables: terminal_text(tables, 80),
    "-100.txt": lambda tables: terminal_text(tables, 100),
    "-140.txt": lambda tables: terminal_text(tables, 140),
    ".md": markdown,
    ".tex": latex,
}


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("name", ["eventful", "torn", "collapsed"])
def test_golden_page(name: str, form: str) -> None:
    """A page is, to the character, the one that was looked at and committed."""
    made = {"eventful": eventful, "torn": torn, "collapsed": collapsed}[name]()
    text, path = _FORMS[form](made), GOLDEN / f"{name}{form}"
    if os.environ.get("SHIP_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
