"""Packages are imported through their __init__, and commands import only what they need."""

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
# Packages whose public names are exported by __init__.
PUBLIC_PACKAGES = sorted(
    path.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for name in ("harness", "reports")
    for path in (ROOT / name).glob("*/__init__.py")
    if path.parent.name not in ("cli", "data", "deploy")
)
PUBLIC_PACKAGES += [f"ship.{name}" for name in CASES["public_packages_of_ship"]]


# Print the names of all imported modules as the last line, with any exit code.
PRINT_MODULES = (
    "import atexit, json, sys; atexit.register(lambda: print(json.dumps([*sys.modules])))"
)


@pytest.mark.slow  # each case starts a process
@pytest.mark.parametrize(
    "case", CASES["programs"], ids=lambda case: " ".join([case["run"], *case.get("arguments", [])])
)
def test_programs_do_not_import_unneeded_packages(case: dict[str, Any]) -> None:
    """Neither forbidden packages are imported, nor slow ones that a command does not need yet."""
    script = f"{PRINT_MODULES}; {case['run']}"
    command = [sys.executable, "-c", script, *case.get("arguments", [])]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == case.get("code", 0), process.stderr
    modules = json.loads(process.stdout.splitlines()[-1])
    imported = {name.partition(".")[0] for name in modules}
    assert not imported & {*case["without"]}


def find_private_imports(source: str, module: str) -> Iterator[str]:
    """Yield the modules inside other packages that a source imports from directly.

    Args:
        source: Source code.
        module: Dotted name of its module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = ".".join(node.module.split(".")[:2])
            is_own_package = f"{module}.".startswith(f"{package}.")
            if package in PUBLIC_PACKAGES and node.module != package and not is_own_package:
                yield node.module


def test_packages_are_used_through_their_init() -> None:
    """Modules of a package can therefore be moved without changes to other packages."""
    assert len(PUBLIC_PACKAGES) >= 12
    violations = [
        f"{path.relative_to(ROOT)}: {module}"
        for name in ("ship", "harness", "reports")
        for path in sorted((ROOT / name).rglob("*.py"))
        for module in find_private_imports(
            path.read_text("utf-8"),
            path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."),
        )
    ]
    assert not violations


def test_private_imports_are_detected() -> None:
    """Modules of the same package may import from each other."""
    source = "from harness.store.open import Store\nfrom harness.store import open_store"
    assert list(find_private_imports(source, "harness.study.run")) == ["harness.store.open"]
    assert not list(find_private_imports(source, "harness.store.session"))


@pytest.mark.slow
def test_an_init_exports_no_unused_name() -> None:
    """Names that are used only inside their package are not exported."""
    trees = {
        path: ast.parse(path.read_text("utf-8"))
        for name in ("harness", "reports", "tests", "docs")
        for path in (ROOT / name).rglob("*.py")
    }
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {(node.module, alias.name) for node in imports for alias in node.names}
    # a name may also be an attribute of an imported package: store.Tag
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    unused = [
        f"{package}: {alias.name}"
        for package in PUBLIC_PACKAGES
        if not package.startswith("ship")
        for node in trees[ROOT / package.replace(".", "/") / "__init__.py"].body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package)
        for alias in node.names
        if (package, alias.name) not in imported and alias.name not in attributes
    ]
    assert not unused
