"""Which code made a number: the package's version, its git commit, and the libraries beside it."""

import json
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reports.contract import Tag

PACKAGES = ("ship-sweep", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
GIT_SECONDS = 5


@cache
def code_version() -> str:
    """The version, in a checkout with its commit: "0.2.0+g1a2b3c4d5e6f", ".dirty" if changed."""
    commit = _commit("--short=12", "HEAD")
    if not commit:
        return _version("ship-sweep")
    package = Path(__file__).parent
    dirty = ".dirty" if _git(package, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{_version('ship-sweep')}+g{commit}{dirty}"


@cache
def source_tags() -> dict[str, str]:
    """MLflow's own tags for where a run comes from; the commit in a checkout alone."""
    tags: dict[str, str] = {Tag.SOURCE_NAME: "ship-sweep", Tag.SOURCE_TYPE: "LOCAL"}
    commit = _commit("HEAD")
    return {**tags, Tag.SOURCE_COMMIT: commit} if commit else tags


@cache
def package_versions() -> str:
    """JSON of the versions of the packages that decide a number; "" for one that is absent."""
    return json.dumps({name: _version(name) for name in PACKAGES})


def _commit(*how: str) -> str:
    """The commit of the checkout that the package lies in, as git's rev-parse gives it; or ""."""
    package = Path(__file__).parent
    # a virtual environment may lie inside some other repository
    if not _git(package, "ls-files", "--error-unmatch", Path(__file__).name):
        return ""
    return _git(package, "rev-parse", *how)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
