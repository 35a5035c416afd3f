"""Version bounds of dependencies in pyproject.toml, installed versions, and files of scripts."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DEPENDENCIES = [
    Requirement(line)
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "dependencies"
    ]
]


def read_lowest_versions() -> dict[str, str]:
    """Return the versions that .ci/lowest prints, by package."""
    command = [sys.executable, str(ROOT / ".ci" / "lowest")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(line.split("==") for line in output.splitlines())  # type: ignore[misc]


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_installed_versions_are_within_the_bounds(dependency: Requirement) -> None:
    """The tests therefore run with supported versions of all direct dependencies."""
    assert dependency.specifier.contains(version(dependency.name), prereleases=True)


def test_ray_is_bounded_on_both_sides() -> None:
    """The tests have not been run with Ray's next major release."""
    (ray,) = [dependency for dependency in DEPENDENCIES if dependency.name == "ray"]
    assert {bound.operator for bound in ray.specifier} == {">=", "<"}
    assert ray.specifier.contains(version("ray"))
    assert not ray.specifier.contains("2.51.2")
    assert not ray.specifier.contains("3.0.0")


def test_lowest_versions_are_the_lower_bounds() -> None:
    """The script .ci/lowest prints them for all direct dependencies but torch and torchvision."""
    versions = read_lowest_versions()
    specifiers = {
        dependency.name: dependency.specifier
        for dependency in DEPENDENCIES
        if not dependency.name.startswith("torch")
    }
    assert versions.keys() == specifiers.keys()
    for name, lowest in versions.items():
        assert specifiers[name].contains(lowest)
        lower_bounds = {bound.version for bound in specifiers[name] if bound.operator == ">="}
        assert lower_bounds == {lowest}


def test_files_named_by_scripts_exist() -> None:
    """Without this test, only the weekly run would report a missing test file."""
    scripts = [path.read_text("utf-8") for path in (ROOT / ".ci").iterdir() if path.is_file()]
    paths = {path for text in scripts for path in re.findall(r"\btests/[\w/.]+", text)}
    assert len(paths) > 5
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
