"""The packages make no unsafe calls. Here are the rules that depend on a call's arguments."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.case_files import load_cases

ROOT = Path(__file__).parents[1]
SOURCES = [path for name in ("ship", "harness", "reports") for path in (ROOT / name).rglob("*.py")]
CASES = load_cases(__file__, "sources.yaml")

# Functions that require a keyword argument with a constant value. Functions that must not be called
# at all are listed in pyproject.toml (ruff's S rules and banned-api, which do not check arguments).
REQUIRED_KEYWORDS = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "ruamel.yaml.YAML": ("typ", "safe"),  # other types build objects, or keep tags that name them
}
FORBIDDEN = ("compile", "__import__")  # ruff's banned-api does not support built-in functions


def find_calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with its full dotted name, in which aliases of imports are resolved."""
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


def find_unsafe_calls(source: str, file: str) -> list[str]:
    """Return a message for each unsafe call in a file."""
    messages = []
    for name, call in find_calls(ast.parse(source)):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        required = REQUIRED_KEYWORDS.get(name)
        shell = keywords.get("shell")
        if name in FORBIDDEN:
            messages.append(f"{file}:{call.lineno}: {name}")
        elif required is not None:
            keyword, required_value = required
            value = keywords.get(keyword)
            if not isinstance(value, ast.Constant) or value.value != required_value:
                messages.append(f"{file}:{call.lineno}: {name} without {keyword}={required_value}")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            messages.append(f"{file}:{call.lineno}: {name} with a shell")
        # wheel.extractall is zipfile's, which never writes outside the target folder
        if name.endswith(".extractall") and name != "wheel.extractall" and "filter" not in keywords:
            messages.append(f"{file}:{call.lineno}: {name} without a filter")
    return messages


def test_no_source_executes_data() -> None:
    """No pickle is read, no YAML builds objects, no text is executed, and no shell is used."""
    assert len(SOURCES) > 100
    messages = []
    for path in SOURCES:
        file = path.relative_to(ROOT).as_posix()
        messages += find_unsafe_calls(path.read_text("utf-8"), file)
    assert not messages


@pytest.mark.parametrize(("kind", "count"), [("unsafe", 1), ("safe", 0)])
def test_unsafe_calls_are_detected(kind: str, count: int) -> None:
    """They are reported under any alias. Safe calls of the same functions are not reported."""
    for source in CASES[kind]:
        assert len(find_unsafe_calls(source, "x.py")) == count, source
