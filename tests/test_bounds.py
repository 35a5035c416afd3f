"""What pyproject.toml asks for of its dependencies, and what is installed."""

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


def lowest() -> dict[str, str]:
    """The versions that .ci/lowest prints."""
    command = [sys.executable, str(ROOT / ".ci" / "lowest")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(line.split("==") for line in out.splitlines())  # type: ignore[misc]


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_installed_versions_are_within_the_bounds(dependency: Requirement) -> None:
    """Each direct dependency is, so that the tests are about these versions."""
    assert dependency.specifier.contains(version(dependency.name), prereleases=True)


def test_ray_is_bounded_on_both_sides() -> None:
    """The tests have not been run with Ray's next major release."""
    (ray,) = [dependency for dependency in DEPENDENCIES if dependency.name == "ray"]
    assert {bound.operator for bound in ray.specifier} == {">=", "<"}
    assert ray.specifier.contains(version("ray"))
    assert not ray.specifier.contains("2.51.2")
    assert not ray.specifier.contains("3.0.0")


def test_the_lowest_versions_are_allowed_and_nothing_lower_is() -> None:
    """.ci/lowest prints the lower bound of each direct dependency except torch and torchvision."""
    versions = lowest()
    wanted = {each.name: each for each in DEPENDENCIES if not each.name.startswith("torch")}
    assert versions.keys() == wanted.keys()
    for name, low in versions.items():
        assert wanted[name].specifier.contains(low)
        assert {bound.version for bound in wanted[name].specifier if bound.operator == ">="} == {
            low
        }


def test_files_named_by_scripts_exist() -> None:
    """Otherwise only weekly runs would report a missing one."""
    scripts = [path.read_text("utf-8") for path in (ROOT / ".ci").iterdir() if path.is_file()]
    named = {name for text in scripts for name in re.findall(r"\btests/[\w/.]+", text)}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
