"""A store's disk that is full in mid-study, or read-only, in a mount namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.study_config import StudyConfig
from tests.harness.conftest import Bench
from tests.harness.driver import study
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import marked, wait_for

ROOT = Path(__file__).parents[3]
Calm = Callable[[StudyConfig], str]
UNSHARED = ["unshare", "--mount", "--propagation", "private"]


def can_mount() -> bool:
    """Whether this user may mount file systems in a namespace."""
    if not shutil.which("unshare"):
        return False
    probe = [*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("allowed")]


@pytest.fixture(scope="module")
def allowed() -> None:
    """Skips where nothing can be mounted; found out when a test runs, not when it is collected."""
    if not can_mount():
        pytest.skip("may not mount in a namespace")


# $1 the empty store, $2 the folder, $3... the driver and its arguments but for the fault
SCRIPT = """
set -u
store=$1 disk=$2 fault=$3 begin=$4 mend=$5; shift 5
mkdir "$disk" && mount -t tmpfs -o size=6m tmpfs "$disk" && cp "$store" "$disk/mlflow.db" || exit 99
eval "$begin"
"$@" "$fault" >"$disk.first" 2>&1; echo $? >"$disk.code"
eval "$mend"
"$@" >"$disk.second" 2>&1; code=$?
cp "$disk/mlflow.db" "$disk.db"
exit $code
"""


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_store_whose_disk_fails(
    bench: Bench, empty_store: Path, tmp_path: Path, calm: Calm, trouble: str
) -> None:
    """One line, exit code 2, no process left; mended, the same command ends with the same table."""
    disk, mark = tmp_path / "disk", uuid.uuid4().hex
    fault = json.dumps({"shell": f"dd if=/dev/zero of={disk}/ballast bs=1k 2>/dev/null", "at": 4})
    begin, mend = "true", f"rm {disk}/ballast"
    if trouble == "read-only":  # from the start: what is open for writing cannot be made so
        fault, begin, mend = "{}", f"mount -o remount,ro {disk}", f"mount -o remount,rw {disk}"
    driver = [sys.executable, "-m", "tests.harness.driver", f"sqlite:///{disk}/mlflow.db"]
    driver += [str(bench.log), str(bench.cache), "0.2"]
    script = [*UNSHARED, "sh", "-c", SCRIPT, "sh", str(empty_store), str(disk), fault, begin, mend]
    done = subprocess.run(
        [*script, *driver],
        cwd=ROOT,
        env={**os.environ, "SHIP_TEST_MARK": mark},
        capture_output=True,
        text=True,
        timeout=280,
    )
    first = Path(f"{disk}.first").read_text()
    assert int(Path(f"{disk}.code").read_text()) == 2, first
    assert "Traceback" not in first
    (line,) = [line for line in first.splitlines() if line.startswith("mistake: ")]
    why = {"full": "database or disk is full", "read-only": "readonly database"}
    assert f"{disk}/mlflow.db" in line and why[trouble] in line
    assert done.returncode == 0, done.stderr + Path(f"{disk}.second").read_text()
    wait_for(lambda: not marked(mark), 30)
    bench.uri = f"sqlite:///{disk}.db"
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))
