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
def source_tags() -> dict[str, str]:
    """Where a run comes from: MLflow's own tags, the version of the code, and those of packages.

    The version is in a checkout with its commit: "0.2.0+g1a2b3c4d5e6f", ".dirty" if changed. A
    package that is absent has the version "".
    """
    versions = {name: _version(name) for name in PACKAGES}
    tags: dict[str, str] = {
        Tag.SOURCE_NAME: "ship-sweep",
        Tag.SOURCE_TYPE: "LOCAL",
        Tag.CODE_VERSION: versions["ship-sweep"],
        Tag.PACKAGES: json.dumps(versions),
    }
    # a virtual environment may lie inside some other repository
    if _git("ls-files", "--error-unmatch", Path(__file__).name):
        commit = _git("rev-parse", "HEAD")
        dirty = ".dirty" if _git("status", "--porcelain", "--untracked-files=no") else ""
        tags[Tag.SOURCE_COMMIT] = commit
        tags[Tag.CODE_VERSION] += f"+g{commit[:12]}{dirty}"
    return tags


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _git(*command: str) -> str:
    """What git says of the checkout that the package lies in; "" where it says nothing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
