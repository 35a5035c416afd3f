"""A private Ray session, as its workers and other users of the machine see it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import importlib.util, json, os, ray, signal
from ray._private import worker
from harness.ray import ray_session
from harness.config import Resources
names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
ask = lambda: [*map(os.environ.get, names), str(importlib.util.find_spec("made_up"))]
signals = []
signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
with ray_session(Resources(), None, 0, False):
    session = [ray.get(ray.remote(ask).remote()), ray.get_runtime_context().runtime_env]
    print(json.dumps([*session, worker._global_node.get_session_dir_path()]), flush=True)
    input()
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps([*ask(), signals]))
"""
pytestmark = pytest.mark.slow
SOMEBODY = 65534
IS_ROOT = os.getuid() == 0  # who alone can be somebody else


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Describe a session from inside, its folder, and what other users see of it."""
    place = tmp_path_factory.mktemp("study")
    (place / "made_up").mkdir()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT],  # as ship-sweep: the folder is not on its path
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "7", "PYTHONPATH": str(ROOT)},
        stdin=PIPE,
        stdout=PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        worker, runtime_env, folder = json.loads(process.stdout.readline())
        inside = [Path(folder), *Path(folder).rglob("*")]
        who: dict[str, Any] = {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": []}
        look = ["ls", "-d", "/", *inside]
        seen = subprocess.run(look, capture_output=True, text=True, **who if IS_ROOT else {}).stdout
        driver, _ = process.communicate("\n")
    assert process.returncode == 0
    reports = {"worker": worker, "runtime_env": runtime_env, "driver": json.loads(driver)}
    return {**reports, "inside": inside, "seen": seen.splitlines()}


def test_workers_have_threads_and_imports_of_a_trial(
    session: dict[str, Any],
) -> None:
    """A folder in the working directory does not hide an installed package."""
    assert session["worker"] == ["1", "PASSIVE", "None"]
    assert session["runtime_env"] == {}  # else no process that is there already would do
    assert session["driver"][:3] == ["7", None, "None"]


def test_signal_after_ray_shutdown_reaches_the_handler(session: dict[str, Any]) -> None:
    """Ray resets the signal's action at its end, when the report is still to be written."""
    assert session["driver"][3] == [signal.SIGTERM]


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else")
def test_other_users_cannot_reach_a_private_ray(session: dict[str, Any]) -> None:
    """Its sockets and logs are in a folder that only its user can read."""
    folder, *_ = session["inside"]
    sockets = {folder / "sockets" / name for name in ("raylet", "plasma_store")}
    assert sockets <= set(session["inside"])
    assert session["seen"] == ["/"]
    assert not folder.exists()
