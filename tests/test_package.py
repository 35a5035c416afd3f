"""The distribution: its public names, the start of its commands, and the files of a release."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import ship_sweep

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("name", ship_sweep.__all__)
def test_public_names_are_exported(name: str) -> None:
    """Each name of __all__ is the object of the package that defines it."""
    assert getattr(ship_sweep, name).__name__ == name


def test_version_is_the_distributions() -> None:
    """pyproject.toml, the Dockerfile and CITATION.cff have the same version."""
    assert ship_sweep.__version__ == version("ship-sweep") == PROJECT["version"]
    dockerfile = (ROOT / "harness" / "deploy" / "Dockerfile").read_text("utf-8")
    assert f"postgres]=={PROJECT['version']}" in dockerfile
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_unknown_names_are_attribute_errors() -> None:
    """A misspelled name is reported as in any module."""
    with pytest.raises(AttributeError, match=r"'ship_sweep' has no attribute 'run_studies'"):
        _ = ship_sweep.run_studies


def test_a_foreign_package_is_reported_in_one_line(tmp_path: Path) -> None:
    """Another distribution's `reports` first in the path ends a command with exit code 2."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "import ship_sweep; ship_sweep.report()", "--help"]
    ended = subprocess.run(
        command, env=environment, cwd=tmp_path / "reports", capture_output=True, text=True
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"'reports' that Python imports is not ship-sweep's ({tmp_path}/reports" in line


def test_windows_is_refused_in_one_line() -> None:
    """The message names an alternative. This platform has no fault."""
    assert "Use Linux, macOS or WSL" in ship_sweep.installation_fault("win32")
    assert ship_sweep.installation_fault() == ""


def test_workflows_call_the_projects_own_scripts() -> None:
    """Each workflow is YAML, and each script that it runs is a file of the repository."""
    paths = sorted((ROOT / ".github").rglob("*.yml"))
    texts = [path.read_text("utf-8") for path in paths]
    assert len(paths) >= 7 and all(YAML(typ="safe").load(text) for text in texts)
    scripts = re.findall(r"bash (\S+)", "\n".join(texts))
    assert {".ci/run", ".ci/weekly"} == {*scripts}
    assert all((ROOT / script).is_file() for script in scripts)


def test_tested_versions_of_python_are_the_declared_ones() -> None:
    """The workflow tests what the classifiers declare."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    declared = re.findall(r":: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert declared and all(f'"{number}"' in workflow for number in declared)


def test_lock_file_has_every_dependency() -> None:
    """Each direct dependency but torch and torchvision is pinned for contributors."""
    lines = (ROOT / ".ci" / "lock.txt").read_text("utf-8").lower().replace("_", "-").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    needed = {
        re.match(r"[\w.-]+", text.lower().replace("_", "-"))[0]  # type: ignore[index]
        for text in PROJECT["dependencies"]
    }
    assert needed - pinned == {"torch", "torchvision"}
