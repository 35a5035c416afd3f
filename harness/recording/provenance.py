"""Which code made a number: the package's version, its git commit, and the libraries beside it."""

import json
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("ship-sweep", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
GIT_SECONDS = 5


@cache
def code_version() -> str:
    """The version, in a checkout with its commit: "0.2.0+g1a2b3c4d5e6f", ".dirty" if changed."""
    package = Path(__file__).parent
    # a virtual environment may lie inside some other repository
    if not _git(package, "ls-files", "--error-unmatch", Path(__file__).name):
        return _version("ship-sweep")
    commit = _git(package, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return _version("ship-sweep")
    dirty = ".dirty" if _git(package, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{_version('ship-sweep')}+g{commit}{dirty}"


def package_versions() -> str:
    """JSON of the versions of the packages that decide a number; "" for one that is absent."""
    return json.dumps({name: _version(name) for name in PACKAGES})


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
