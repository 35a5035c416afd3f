"""A store's file or disk fails during a study. Disks are mounted in a separate namespace."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy

from harness.config.study_config import StudyConfig
from harness.store.errors import StoreError
from tests.harness.conftest import Bench
from tests.harness.driver import make_driver_study
from tests.harness.fakes import make_sleeping_behavior
from tests.harness.processes import find_marked_processes
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import IN_PROCESS, ROOT, Driver, wait_for

RunUndisturbed = Callable[[StudyConfig], str]
FOLDER = Path(__file__).parent
UNSHARED = ["unshare", "--mount", "--propagation", "private"]


def can_mount() -> bool:
    """Return True if this user may mount file systems in a namespace."""
    if not shutil.which("unshare"):
        return False
    probe = [*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def mount_allowed() -> None:
    """Skip the test if this user may not mount file systems."""
    if not can_mount():
        pytest.skip("this user may not mount file systems in a namespace")


@dataclass
class Disk:
    """A folder that is a separate disk while two drivers run, one after the other.

    Attributes:
        bench: Bench of the study.
        store: File of an empty store, which is copied to the disk.
        folder: Mount point.
    """

    bench: Bench
    store: Path
    folder: Path

    def run_twice(self, fault: str, uri: str, cache: Path, **study: Any) -> tuple[int, list[str]]:
        """Run a study on a disk that becomes full or is read-only, and again on the fixed disk.

        Returns:
            The first driver's exit code, and its error lines.
        """
        second: dict[str, Any] = {**IN_PROCESS, "study": study}
        if fault == "full":
            fill = f"dd if=/dev/zero of={self.folder}/ballast bs=1k 2>/dev/null"
            first = {**second, "shell": fill, "at": 4}
            begin, mend = "true", f"rm {self.folder}/ballast"
        else:  # from the start: a disk cannot become read-only while a file is open for writing
            first = second
            begin, mend = (f"mount -o remount,{mode} {self.folder}" for mode in ("ro", "rw"))
        variables = {"DISK": self.folder, "STORE": self.store, "BEGIN": begin, "MEND": mend}
        variables |= {"FIRST": json.dumps(first), "SECOND": json.dumps(second)}
        mark = uuid.uuid4().hex
        driver = [sys.executable, "-m", "tests.harness.driver", uri, self.bench.log, cache, "0.1"]
        result = subprocess.run(
            [*UNSHARED, "sh", "-u", FOLDER / "failing_disk.sh", *driver],
            cwd=ROOT,
            env={**os.environ, "SHIP_TEST_MARK": mark, **variables},
            capture_output=True,
            text=True,
            timeout=280,
        )
        output = Path(f"{self.folder}.first").read_text()
        assert result.returncode == 0, result.stdout + result.stderr + output
        assert "Traceback" not in output
        wait_for(lambda: not find_marked_processes(mark), 30)
        mistakes = [line for line in output.splitlines() if line.startswith("mistake: ")]
        return int(Path(f"{self.folder}.code").read_text()), mistakes


@pytest.fixture
def disk(bench: Bench, empty_store: Path, tmp_path: Path, mount_allowed: None) -> Disk:
    """Create a disk with an empty store on it."""
    return Disk(bench, empty_store, tmp_path / "disk")


@pytest.mark.parametrize(
    ("fault", "reason"), [("full", "database or disk is full"), ("read-only", "readonly database")]
)
def test_failed_store_disk_ends_the_study(
    bench: Bench, disk: Disk, run_undisturbed: RunUndisturbed, fault: str, reason: str
) -> None:
    """The error is one line. On the fixed disk, the same command completes the study."""
    code, (line,) = disk.run_twice(fault, f"sqlite:///{disk.folder}/mlflow.db", bench.cache)
    assert code == 2 and f"{disk.folder}/mlflow.db" in line and reason in line
    bench.uri = f"sqlite:///{disk.folder}.db"
    shutil.copytree(f"{disk.folder}.files", f"{disk.folder}/mlartifacts")  # the address in its runs
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_full_cache_disk_prevents_only_checkpoints(
    bench: Bench, disk: Disk, run_undisturbed: RunUndisturbed, fault: str
) -> None:
    """A read-only disk is refused at the start."""
    checkpoints = {"checkpoint_every": 0.0}
    code, mistakes = disk.run_twice(fault, bench.uri, disk.folder, **checkpoints)
    assert all(f"storage {disk.folder}/checkpoints: cannot write" in line for line in mistakes)
    assert (code, len(mistakes)) == ((2, 1) if fault == "read-only" else (0, 0))
    bench.check_invariants()
    assert len(bench.list_started()) == 8  # each seed ran once
    assert_same_table(bench.uri, run_undisturbed(make_driver_study(**checkpoints)))


def test_failed_report_disk_is_one_line_error(
    tmp_path: Path, run_undisturbed: RunUndisturbed, mount_allowed: None
) -> None:
    """The exit code is 2. On the fixed disk, the report is written without temporary files."""
    disk = tmp_path / "disk"
    program = "import sys; from reports.cli import main; sys.argv[0] = 'ship-report'; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "small",
        "--tracking-uri",
        run_undisturbed(make_driver_study()),
        "--out",
    ]
    script = [*UNSHARED, "sh", "-u", FOLDER / "report_on_a_failing_disk.sh", str(disk)]
    result = subprocess.run(
        [*script, *command], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    words = result.stdout.split()
    codes, files = words[:3], words[3:]
    assert codes == ["2", "2", "0"], result.stdout + result.stderr
    assert files and not any(file.startswith(".") for file in files)
    for fault, reason in (("full", "No space left on device"), ("read-only", "Read-only file")):
        (line,) = Path(f"{disk}.{fault}").read_text().splitlines()
        assert line.startswith(f"{disk}/report: cannot write the report: {reason}")


LOCKED_SECONDS = 3.0
# How long MLflow waits for a lock by default, and how long it waits in the test.
DEFAULT_MILLISECONDS, TEST_MILLISECONDS = 20000, 300


def run_while(bench: Bench, act: Callable[[Path], object]) -> str:
    """Run the study, call `act` with the store's file during a trial, and return the output."""
    path = Path(bench.uri.removeprefix("sqlite:///"))

    def act_after_start() -> None:
        wait_for(lambda: bool(bench.list_started()))
        act(path)

    thread = Thread(target=act_after_start)
    thread.start()
    bench.behave = make_sleeping_behavior(0.5)
    try:
        outcome, lines = bench.run_and_capture(make_driver_study())
        assert outcome.complete
        return "\n".join(lines)
    finally:
        thread.join()
        bench.behave = None


def test_deleted_store_ends_the_study(
    bench: Bench, run_undisturbed: RunUndisturbed, start_driver: Callable[..., Driver]
) -> None:
    """The error is one line. The next command creates a store and runs the whole study."""
    with pytest.raises(StoreError, match=r"mlflow\.db was deleted or moved while it was in"):
        run_while(bench, Path.unlink)
    code, output = start_driver(0.0, fault=IN_PROCESS).end()
    assert code == 0, output
    path = Path(bench.uri.removeprefix("sqlite:///"))
    path = path.rename(path.with_name("new.db"))  # MLflow in this process has the deleted file open
    bench.uri = f"sqlite:///{path}"
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))


def test_overwritten_store_ends_the_study(bench: Bench) -> None:
    """The error is one line, and so is that of the next run, which does not change the file."""
    content = random.Random(0).randbytes(100_000)
    with pytest.raises(StoreError, match=r"the MLflow store failed: .*is not a database"):
        run_while(bench, lambda path: path.write_bytes(content))
    with pytest.raises(StoreError, match="cannot use the MLflow store: file is not a database"):
        bench.run(make_driver_study())
    assert Path(bench.uri.removeprefix("sqlite:///")).read_bytes() == content


def test_study_waits_for_a_locked_store(
    bench: Bench, run_undisturbed: RunUndisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No seed runs twice."""
    text = sqlalchemy.sql.text
    default = f"busy_timeout = {DEFAULT_MILLISECONDS}"
    shortened = f"busy_timeout = {TEST_MILLISECONDS}"
    monkeypatch.setattr(
        sqlalchemy.sql, "text", lambda statement: text(statement.replace(default, shortened))
    )

    def lock(path: Path) -> None:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as base:
            base.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_SECONDS)
            base.execute("ROLLBACK")

    assert "retrying for up to" in run_while(bench, lock)
    bench.check_invariants()
    assert len(bench.list_started()) == 8
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))
