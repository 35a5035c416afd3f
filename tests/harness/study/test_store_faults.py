"""Disks that are full in mid-study, or read-only, in a mount namespace of their own."""

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
from tests.harness.study.drivers import HERE, marked, wait_for

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
"$@" '{"in_process": true}' >"$disk.second" 2>&1; code=$?
cp "$disk/mlflow.db" "$disk.db"
exit $code
"""


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_store_whose_disk_fails(
    bench: Bench, empty_store: Path, tmp_path: Path, calm: Calm, trouble: str
) -> None:
    """One line, exit code 2, no process left; mended, the same command ends with the same table."""
    disk, mark = tmp_path / "disk", uuid.uuid4().hex
    full = {"shell": f"dd if=/dev/zero of={disk}/ballast bs=1k 2>/dev/null", "at": 4}
    fault, begin, mend = json.dumps({**HERE, **full}), "true", f"rm {disk}/ballast"
    if trouble == "read-only":  # from the start: what is open for writing cannot be made so
        fault = json.dumps(HERE)
        begin, mend = f"mount -o remount,ro {disk}", f"mount -o remount,rw {disk}"
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


# $1 a folder for cache and checkpoints, $2 a command before the first run, $3... the driver
FOLDERS = """
set -u
disk=$1 begin=$2; shift 2
mkdir "$disk" && mount -t tmpfs -o size=2m tmpfs "$disk" && eval "$begin" || exit 99
"$@" >"$disk.first" 2>&1; code=$?
[ $code = 2 ] || exit $code
mount -o remount,rw "$disk"
"$@" >"$disk.second" 2>&1
"""


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_cache_and_checkpoints_whose_disk_fails(
    bench: Bench, tmp_path: Path, calm: Calm, trouble: str
) -> None:
    """Full in mid-study, it costs the checkpoints alone; one that is read-only is told at once."""
    disk, mark = tmp_path / "disk", uuid.uuid4().hex
    checkpoints = {"checkpoint_every": 0.0}
    here = {**HERE, "study": checkpoints}
    ballast = f"dd if=/dev/zero of={disk}/ballast bs=1k 2>/dev/null"
    fault = {**here, "shell": ballast, "at": 2}
    begin = "true"
    if trouble == "read-only":
        fault, begin = here, f"mount -o remount,ro {disk}"
    driver = [sys.executable, "-m", "tests.harness.driver", bench.uri, str(bench.log), str(disk)]
    script = [*UNSHARED, "sh", "-c", FOLDERS, "sh", str(disk), begin]
    done = subprocess.run(
        [*script, *driver, "0.1", json.dumps(fault)],
        cwd=ROOT,
        env={**os.environ, "SHIP_TEST_MARK": mark},
        capture_output=True,
        text=True,
        timeout=280,
    )
    first = Path(f"{disk}.first").read_text()
    assert done.returncode == 0, done.stderr + first
    assert "Traceback" not in first
    told = [line for line in first.splitlines() if line.startswith("mistake: ")]
    if trouble == "read-only":
        assert len(told) == 1 and f"storage {disk}/checkpoints: cannot write" in told[0], first
    else:
        assert not told, first
    wait_for(lambda: not marked(mark), 30)
    bench.check_invariants()
    assert len(bench.lines()) == 8  # nothing ran twice
    assert_same_table(bench.uri, calm(study(**checkpoints)))


# $1 a folder, $2 the report's command before the folder's name
REPORT = """
set -u
disk=$1; shift
mkdir "$disk" && mount -t tmpfs -o size=64k tmpfs "$disk" || exit 99
"$@" "$disk/report" 2>"$disk.full" >/dev/null; echo $?
mount -o remount,size=64m,ro "$disk"
"$@" "$disk/report" 2>"$disk.read-only" >/dev/null; echo $?
mount -o remount,rw "$disk"
"$@" "$disk/report" >/dev/null; echo $?
ls -A "$disk/report"
"""


def test_a_report_whose_disk_fails(tmp_path: Path, calm: Calm) -> None:
    """One line and exit code 2, full or read-only; with space, a report and nothing beside it."""
    disk = tmp_path / "disk"
    program = "import sys; from reports.cli import main; sys.argv[0] = 'ship-report'; main()"
    command = [sys.executable, "-c", program, "small", "--tracking-uri", calm(study()), "--out"]
    script = [*UNSHARED, "sh", "-c", REPORT, "sh", str(disk)]
    done = subprocess.run(
        [*script, *command], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    codes, files = done.stdout.split()[:3], done.stdout.split()[3:]
    assert codes == ["2", "2", "0"], done.stdout + done.stderr
    assert files and not any(file.startswith(".") for file in files)
    for trouble, why in (("full", "No space left on device"), ("read-only", "Read-only file")):
        (line,) = Path(f"{disk}.{trouble}").read_text().splitlines()
        assert line.startswith(f"{disk}/report: cannot write the report: {why}")
