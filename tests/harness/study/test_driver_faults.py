"""Drivers that die while they write, and clocks that jump: the final table is the same.

Two soaks among them are short: .ci/weekly runs long ones, and one with drivers on sqlite.
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
from tests.harness.driver import study
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import HERE, ROOT, Driver

Calm = Callable[[StudyConfig], str]
pytestmark = pytest.mark.faults


Drive = Callable[..., Driver]


@pytest.mark.parametrize(
    "die",
    [
        # the study's run is the first one: the trial's has begun, and has no params yet
        pytest.param({"in": "create_run", "call": 2, "after": True}, id="before the first report"),
        # says COMPLETE, has its numbers, and is RUNNING to MLflow
        pytest.param({"in": "set_terminated", "call": 1, "after": False}, id="before the state"),
        # after the two files of the study's run: results of another study are copied
        pytest.param({"in": "log_artifact", "call": 3, "after": True, "of": 5}, id="reusing"),
    ],
)
def test_driver_killed_during_a_write(
    bench: Bench, drive: Drive, calm: Calm, die: dict[str, Any]
) -> None:
    """The next run closes runs that are RUNNING, and completes the same table."""
    known = bench.run(study(name="before", seeds=die["of"])).done if "of" in die else 0
    before = len(bench.lines())
    code, output = drive(0.05, fault={**HERE, "die": die, "reuse": True}).end()
    assert code == -signal.SIGKILL, output
    assert any(run.info.status == "RUNNING" for run in bench.runs())
    assert bench.run(study()).complete
    bench.check_invariants()
    assert bench.states().count("COMPLETE") == 4
    assert not known or len(bench.lines()) == before
    assert_same_table(bench.uri, calm(study()))


def test_clock_jump_during_a_study(bench: Bench, drive: Drive, calm: Calm) -> None:
    """No limit is exceeded, nothing runs twice, and a later run reads the history correctly."""
    configurations = {"trial_timeout": 120.0}
    fault = {**HERE, "jump": -3600, "at": 4, "study": configurations}
    code, output = drive(0.05, fault=fault).end()
    assert code == 0, output
    starts = [run.info.start_time for run in bench.trials()]
    assert max(starts) - min(starts) > 3000 * 1000  # it did jump
    assert bench.states() == ["COMPLETE"] * 4
    assert len(bench.lines()) == 8
    assert not bench.run(study(**configurations)).ran
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))


def test_interrupted_report_leaves_whole_files(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is the old or the new one, and the next report writes all."""

    def plain(folder: Path) -> dict[str, bytes]:
        paths = (
            path for path in folder.iterdir() if path.suffix in (".txt", ".md", ".tex", ".csv")
        )
        return {path.name: path.read_bytes() for path in paths}

    out, fresh = tmp_path / "report", tmp_path / "fresh"
    bench.run(make_study(seeds=2))
    files = load_study("small", bench.uri).write(out)
    old = plain(out)
    bench.run(make_study(seeds=3))
    written, move = list[str](), Path.replace

    def cut_short(path: Path, target: Path) -> Path:
        written.append(target.name)
        if len(written) == len(files) // 2:
            raise KeyboardInterrupt
        return move(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", cut_short)
        load_study("small", bench.uri).write(out)
    load_study("small", bench.uri).write(fresh)
    new, now = plain(fresh), plain(out)
    changed = [name for name in old if now[name] != old[name]]
    assert changed and len(changed) < len(old)
    assert all(now[name] == new[name] for name in changed)
    load_study("small", bench.uri).write(out)
    assert plain(out) == new


FIRST_TOUCH = """
import sys
from pathlib import Path
from harness.store.open import open_store
store = open_store(sys.argv[1])
store.client.create_run(store.get_or_create_experiment(sys.argv[2]))
"""


def test_four_processes_create_a_store_at_once(tmp_path: Path) -> None:
    """All find the complete schema, and no row is lost."""
    uri, names = f"sqlite:///{tmp_path}/mlflow.db", [f"study-{number}" for number in range(4)]
    commands = ([sys.executable, "-c", FIRST_TOUCH, uri, name] for name in names)
    processes = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    bench = Bench(uri, tmp_path / "log", tmp_path / "cache")
    assert [len(list(bench.runs(name))) for name in names] == [1] * 4


def soak(*arguments: str) -> str:
    """Run a soak test, which must succeed, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.weekly
def test_rerun_after_random_kills_completes_study() -> None:
    """Two studies on a server with errors leave the same content as an undisturbed one."""
    output = soak("server", "2", "1", "2")
    assert "2 studies, kills: {'" in output and "; 2 whole; " in output
