"""Public names of the distribution, start of its commands, and files of a release."""

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


def test_versions_are_equal() -> None:
    """The module, pyproject.toml, the Dockerfile and CITATION.cff have the same version."""
    assert ship_sweep.__version__ == version("ship-sweep") == PROJECT["version"]
    dockerfile = (ROOT / "harness" / "deploy" / "Dockerfile").read_text("utf-8")
    assert f"postgres]=={PROJECT['version']}" in dockerfile
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_unknown_names_are_attribute_errors() -> None:
    """A misspelled name is reported as in any module."""
    with pytest.raises(AttributeError, match=r"'ship_sweep' has no attribute 'run_studies'"):
        _ = ship_sweep.run_studies


def test_package_of_another_distribution_is_reported(tmp_path: Path) -> None:
    """If another `reports` is first in the path, a command prints one line and exits with 2."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "import ship_sweep; ship_sweep.report()", "--help"]
    process = subprocess.run(
        command, env=environment, cwd=tmp_path / "reports", capture_output=True, text=True
    )
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert f"'reports' that Python imports is not ship-sweep's ({tmp_path}/reports" in line


def test_windows_is_refused() -> None:
    """The message names alternatives. The platform of the tests is accepted."""
    assert "Use Linux, macOS or WSL" in ship_sweep.find_installation_fault("win32")
    assert ship_sweep.find_installation_fault() == ""


def test_workflows_run_existing_scripts() -> None:
    """Each workflow is valid YAML, and each script that it runs is in the repository."""
    paths = sorted((ROOT / ".github").rglob("*.yml"))
    texts = [path.read_text("utf-8") for path in paths]
    assert len(paths) >= 7 and all(YAML(typ="safe").load(text) for text in texts)
    scripts = re.findall(r"bash (\S+)", "\n".join(texts))
    assert {".ci/run", ".ci/weekly"} == {*scripts}
    assert all((ROOT / script).is_file() for script in scripts)


def test_declared_python_versions_are_tested() -> None:
    """The workflow has every version of the classifiers."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    declared = re.findall(r":: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert declared and all(f'"{number}"' in workflow for number in declared)


def test_lock_file_has_every_dependency() -> None:
    """All direct dependencies except torch and torchvision are pinned."""
    lines = (ROOT / ".ci" / "lock.txt").read_text("utf-8").lower().replace("_", "-").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    required = {
        re.match(r"[\w.-]+", text.lower().replace("_", "-"))[0]  # type: ignore[index]
        for text in PROJECT["dependencies"]
    }
    assert required - pinned == {"torch", "torchvision"}
