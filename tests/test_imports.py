"""Imports go one way, through each package's face, and commands start light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.case_files import load_cases

ROOT = Path(__file__).parents[1]
CASES = load_cases(__file__, "imports.yaml")
# Packages whose __init__ hands on all that others may take from them.
FACES = sorted(
    path.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for name in ("harness", "reports")
    for path in (ROOT / name).glob("*/__init__.py")
    if path.parent.name not in ("cli", "data", "deploy")
)
FACES += [f"ship.{name}" for name in CASES["faces_of_ship"]]


# Last of all, whatever the exit code is, the names of what was loaded.
TELL = "import atexit, json, sys; atexit.register(lambda: print(json.dumps([*sys.modules])))"


@pytest.mark.slow  # each starts a process
@pytest.mark.parametrize(
    "case", CASES["programs"], ids=lambda case: " ".join([case["run"], *case.get("arguments", [])])
)
def test_packages_do_not_load_what_they_do_not_need(case: dict[str, Any]) -> None:
    """Forbidden packages, and those that a command does not need yet, are not loaded."""
    command = [sys.executable, "-c", f"{TELL}; {case['run']}", *case.get("arguments", [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == case.get("code", 0), done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert not loaded & {*case["without"]}


def past_the_face(source: str, module: str) -> Iterator[str]:
    """Modules inside other packages that a source imports from, going past their faces."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = ".".join(node.module.split(".")[:2])
            inside = f"{module}.".startswith(f"{package}.")
            if package in FACES and node.module != package and not inside:
                yield node.module


def test_packages_are_used_through_their_init() -> None:
    """Modules behind an __init__ can be moved without changes elsewhere."""
    assert len(FACES) >= 12
    violations = [
        f"{path.relative_to(ROOT)}: {module}"
        for name in ("ship", "harness", "reports")
        for path in sorted((ROOT / name).rglob("*.py"))
        for module in past_the_face(
            path.read_text("utf-8"),
            path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."),
        )
    ]
    assert not violations


def test_imports_past_an_init_are_noticed() -> None:
    """The test above can fail."""
    source = "from harness.store.open import Store\nfrom harness.store import open_store"
    assert list(past_the_face(source, "harness.study.run")) == ["harness.store.open"]
    assert not list(past_the_face(source, "harness.store.session"))


@pytest.mark.slow
def test_an_init_exports_no_unused_name() -> None:
    """Names that only the package itself uses are not exported."""
    trees = {
        path: ast.parse(path.read_text("utf-8"))
        for name in ("harness", "reports", "tests", "docs")
        for path in (ROOT / name).rglob("*.py")
    }
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    taken = {(node.module, alias.name) for node in imports for alias in node.names}
    # of a package that is imported whole
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    idle = [
        f"{face}: {alias.name}"
        for face in FACES
        if not face.startswith("ship")
        for node in trees[ROOT / face.replace(".", "/") / "__init__.py"].body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(face)
        for alias in node.names
        if (face, alias.name) not in taken and alias.name not in attributes
    ]
    assert not idle
