"""A driver that dies at the worst moments, and clocks that jump: the same table in the end."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from reports.cli import render
from tests.harness.conftest import Bench
from tests.harness.driver import study
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import HERE

ROOT = Path(__file__).parents[3]
Calm = Callable[[StudyConfig], str]
pytestmark = pytest.mark.faults


def drive(bench: Bench, fault: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the driver with a fault to its end."""
    paths = [bench.uri, str(bench.log), str(bench.cache), "0.05", json.dumps({**HERE, **fault})]
    return subprocess.run(
        [sys.executable, "-m", "tests.harness.driver", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize(
    "die",
    [
        # the study's run is the first one: the trial's has begun, and has no params yet
        pytest.param({"in": "create_run", "call": 2, "after": True}, id="before the first report"),
        pytest.param({"in": "log_batch", "call": 9, "after": True}, id="in mid write"),
        # says COMPLETE, has its numbers, and is RUNNING to MLflow
        pytest.param({"in": "set_terminated", "call": 1, "after": False}, id="before the state"),
    ],
)
def test_a_driver_killed_while_it_writes(bench: Bench, calm: Calm, die: dict[str, Any]) -> None:
    """The next run closes what was left RUNNING, and ends with the undisturbed table."""
    done = drive(bench, {"die": die})
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert any(run.info.status == "RUNNING" for run in bench.runs())
    assert bench.run(study()).complete
    bench.check_invariants()
    assert bench.states().count("COMPLETE") == 4
    assert_same_table(bench.uri, calm(study()))


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_in_mid_study(bench: Bench, calm: Calm, hours: int) -> None:
    """No limit passes, nothing waits or runs twice; a later run reads the ledger all the same."""
    settings = {"time_limit": 120.0}
    done = drive(bench, {"jump": 3600 * hours, "at": 4, "study": settings})
    assert done.returncode == 0, done.stdout + done.stderr
    starts = [run.info.start_time for run in bench.trials()]
    assert max(starts) - min(starts) > 3000 * 1000  # it did jump
    assert bench.states() == ["COMPLETE"] * 4
    assert len(bench.lines()) == 8
    assert not bench.run(study(**settings)).ran
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))


KILLED_REPORT = """
import os, signal, sys
from pathlib import Path
from typing import Any
from reports.cli import render
left = [int(sys.argv[3])]
original = Path.replace
def replace(self, target):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, target)
Path.replace = replace
render("small", sys.argv[1], Path(sys.argv[2]))
"""


def test_a_report_that_is_killed_leaves_whole_files(bench: Bench, tmp_path: Path) -> None:
    """Each is the old one or the new one, and the next report writes them all."""
    out, fresh = tmp_path / "report", tmp_path / "fresh"
    bench.run(make_study(seeds=2))
    files = render("small", bench.uri, out)
    old = {path.name: path.read_bytes() for path in files}
    bench.run(make_study(seeds=3))
    arguments = [bench.uri, str(out), str(len(files) // 2)]
    code = subprocess.run(
        [sys.executable, "-c", KILLED_REPORT, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    assert code.returncode == -signal.SIGKILL
    texts = {path.name: path.read_bytes() for path in render("small", bench.uri, fresh)}
    now = {name: (out / name).read_bytes() for name in old}
    plain = [name for name in old if re.search(r"\.(txt|md|tex|csv)$", name)]
    assert {now[name] in (old[name], texts[name]) for name in plain} == {True}
    changed = [name for name in plain if now[name] != old[name]]
    assert changed and len(changed) < len(plain)
    render("small", bench.uri, out)
    assert all((out / name).read_bytes() == texts[name] for name in plain)


FIRST_TOUCH = """
import sys
from pathlib import Path
from typing import Any
from harness.store.open import open_store
from harness.store.batches import log
folder, name = Path(sys.argv[1]), sys.argv[2]
store = open_store(f"sqlite:///{folder}/mlflow.db", folder)
run = store.client.create_run(store.create_experiment(name))
log(store.client, run.info.run_id, metrics={"there": 1.0})
"""


def test_four_processes_first_touch_a_new_store(tmp_path: Path) -> None:
    """All of them find its schema whole, and their rows are there."""
    from harness.store.open import open_store

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_TOUCH, str(tmp_path), f"study-{number}"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    assert store is not None
    for number in range(4):
        experiment = store.experiment(f"study-{number}")
        assert experiment is not None
        assert len(store.client.search_runs([experiment])) == 1
