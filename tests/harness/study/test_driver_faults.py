"""Drivers that die while they write, clocks that jump, and interrupted reports.

.ci/weekly runs longer soak tests than this file.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from reports import load_study
from tests.harness.conftest import Bench
from tests.harness.driver import make_driver_study
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import IN_PROCESS, ROOT, Driver

RunUndisturbed = Callable[[StudyConfig], str]
pytestmark = pytest.mark.faults
StartDriver = Callable[..., Driver]


@pytest.mark.parametrize(
    "die",
    [
        # The first created run is the study's, the second a trial's, which has no params yet.
        pytest.param({"in": "create_run", "call": 2, "after": True}, id="before the first report"),
        # The run's tag is COMPLETE and its numbers are written, but its status is RUNNING.
        pytest.param({"in": "set_terminated", "call": 1, "after": False}, id="before the state"),
        # The study's run has two files, so the third belongs to a result that is being reused.
        pytest.param({"in": "log_artifact", "call": 3, "after": True, "of": 5}, id="reusing"),
    ],
)
def test_driver_killed_during_a_write(
    bench: Bench, start_driver: StartDriver, run_undisturbed: RunUndisturbed, die: dict[str, Any]
) -> None:
    """The next run closes runs that are RUNNING, and completes the study with the same table."""
    n_reusable = 0
    if "of" in die:
        n_reusable = bench.run(make_driver_study(name="before", seeds=die["of"])).done
    n_started = len(bench.list_started())
    code, output = start_driver(0.05, fault={**IN_PROCESS, "die": die, "reuse": True}).end()
    assert code == -signal.SIGKILL, output
    assert any(run.info.status == "RUNNING" for run in bench.list_runs())
    assert bench.run(make_driver_study()).complete
    bench.check_invariants()
    assert bench.list_states().count("COMPLETE") == 4
    assert not n_reusable or len(bench.list_started()) == n_started
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))


def test_clock_jump_during_a_study(
    bench: Bench, start_driver: StartDriver, run_undisturbed: RunUndisturbed
) -> None:
    """No timeout is exceeded, no seed runs twice, and a later run reads the history correctly."""
    keys = {"trial_timeout": 120.0}
    fault = {**IN_PROCESS, "jump": -3600, "at": 4, "study": keys}
    code, output = start_driver(0.05, fault=fault).end()
    assert code == 0, output
    starts = [run.info.start_time for run in bench.list_trials()]
    assert max(starts) - min(starts) > 3000 * 1000  # the clock jumped
    assert bench.list_states() == ["COMPLETE"] * 4
    assert len(bench.list_started()) == 8
    assert not bench.run(make_driver_study(**keys)).ran
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study()))


def test_interrupted_report_leaves_complete_files(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is the old or the new one, and the next report writes all files."""

    def read_text_files(folder: Path) -> dict[str, bytes]:
        paths = (
            path for path in folder.iterdir() if path.suffix in (".txt", ".md", ".tex", ".csv")
        )
        return {path.name: path.read_bytes() for path in paths}

    out, fresh = tmp_path / "report", tmp_path / "fresh"
    bench.run(make_study(seeds=2))
    files = load_study("small", bench.uri).write(out)
    old = read_text_files(out)
    bench.run(make_study(seeds=3))
    moved, move = list[str](), Path.replace

    def move_or_interrupt(path: Path, target: Path) -> Path:
        moved.append(target.name)
        if len(moved) == len(files) // 2:
            raise KeyboardInterrupt
        return move(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", move_or_interrupt)
        load_study("small", bench.uri).write(out)
    load_study("small", bench.uri).write(fresh)
    new, interrupted = read_text_files(fresh), read_text_files(out)
    changed = [name for name in old if interrupted[name] != old[name]]
    assert changed and len(changed) < len(old)
    assert all(interrupted[name] == new[name] for name in changed)
    load_study("small", bench.uri).write(out)
    assert read_text_files(out) == new


CREATE_STORE = """
import sys
from pathlib import Path
from harness.store.open import open_store
store = open_store(sys.argv[1])
store.client.create_run(store.get_or_create_experiment(sys.argv[2]))
"""


def test_four_processes_create_a_store_at_once(tmp_path: Path) -> None:
    """Each process has the complete schema, and no row is lost."""
    uri, names = f"sqlite:///{tmp_path}/mlflow.db", [f"study-{number}" for number in range(4)]
    commands = ([sys.executable, "-c", CREATE_STORE, uri, name] for name in names)
    processes = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    bench = Bench(uri, tmp_path / "log", tmp_path / "cache")
    assert [len(list(bench.list_runs(name))) for name in names] == [1] * 4


def run_soak(*arguments: str) -> str:
    """Run a soak test, which must succeed, and return its output."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.weekly
def test_rerun_after_random_kills_completes_study() -> None:
    """Two studies on a server with errors have the same runs as an undisturbed study."""
    output = run_soak("server", "2", "1", "2")
    assert "2 studies, kills: {'" in output and "; 2 whole; " in output
