"""What the packages must not call, where it hangs on arguments: ruff reads none of these."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.case_files import load_cases

ROOT = Path(__file__).parents[1]
SOURCES = [path for name in ("ship", "harness", "reports") for path in (ROOT / name).rglob("*.py")]
CASES = load_cases(__file__, "sources.yaml")

# Only with these, written out; ruff's S rules and banned-api (pyproject.toml) hold what may not be
# called at all, but read no arguments of these.
ONLY_WITH = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "ruamel.yaml.YAML": ("typ", "safe"),  # others build objects, or keep the tags that name them
}
NEVER = ("compile", "__import__")  # ruff's banned-api knows no built-in functions


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call by its full dotted name, imports and their aliases looked through."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                names[alias.asname or top] = top
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, rest = ast.unparse(node.func).partition(".")
            yield f"{names.get(head, head)}{dot}{rest}", node


def faults(source: str, file: str) -> list[str]:
    """What a file calls and must not."""
    messages = []
    for name, call in calls(ast.parse(source)):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        wanted = ONLY_WITH.get(name)
        shell = keywords.get("shell")
        if name in NEVER:
            messages.append(f"{file}:{call.lineno}: {name}")
        elif wanted is not None:
            value = keywords.get(wanted[0])
            if not isinstance(value, ast.Constant) or value.value != wanted[1]:
                messages.append(f"{file}:{call.lineno}: {name} without {wanted[0]}={wanted[1]}")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            messages.append(f"{file}:{call.lineno}: {name} with a shell")
        # of a wheel: zipfile leaves out what would leave the folder
        if name.endswith(".extractall") and name != "wheel.extractall" and "filter" not in keywords:
            messages.append(f"{file}:{call.lineno}: {name} without a filter")
    return messages


def test_no_source_turns_data_into_code() -> None:
    """No pickle is read, no YAML builds objects, no text is executed, and no shell is used."""
    assert len(SOURCES) > 100
    messages = []
    for path in SOURCES:
        messages += faults(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    assert not messages


@pytest.mark.parametrize(("kind", "count"), [("faulty", 1), ("sound", 0)])
def test_the_search_finds_each_fault_and_nothing_else(kind: str, count: int) -> None:
    """A call is reported under any imported name. Reading data as data is not reported."""
    for source in CASES[kind]:
        assert len(faults(source, "x.py")) == count, source
