"""A private Ray session: its workers, its driver, and the access of other users."""

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
report = lambda: [*map(os.environ.get, names), str(importlib.util.find_spec("made_up"))]
signals = []
signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
with ray_session(Resources(), None, 0, False):
    session = [ray.get(ray.remote(report).remote()), ray.get_runtime_context().runtime_env]
    print(json.dumps([*session, worker._global_node.get_session_dir_path()]), flush=True)
    input()
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps([*report(), signals]))
"""
pytestmark = pytest.mark.slow
OTHER_USER = 65534
IS_ROOT = os.getuid() == 0  # only root can run a process as another user


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Describe a session: its worker, driver and files, and the files that other users can list."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "made_up").mkdir()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT],  # like ship-sweep, without the folder on its path
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "7", "PYTHONPATH": str(ROOT)},
        stdin=PIPE,
        stdout=PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        worker, runtime_env, session_folder = json.loads(process.stdout.readline())
        files = [Path(session_folder), *Path(session_folder).rglob("*")]
        user: dict[str, Any] = {"user": OTHER_USER, "group": OTHER_USER, "extra_groups": []}
        command = ["ls", "-d", "/", *files]
        listing = subprocess.run(
            command, capture_output=True, text=True, **user if IS_ROOT else {}
        ).stdout
        driver, _ = process.communicate("\n")
    assert process.returncode == 0
    reports = {"worker": worker, "runtime_env": runtime_env, "driver": json.loads(driver)}
    return {**reports, "files": files, "listing": listing.splitlines()}


def test_workers_have_threads_and_imports_of_a_trial(
    session: dict[str, Any],
) -> None:
    """A folder in the working directory does not hide an installed package."""
    assert session["worker"] == ["1", "PASSIVE", "None"]
    assert session["runtime_env"] == {}  # otherwise Ray would start new processes for it
    assert session["driver"][:3] == ["7", None, "None"]


def test_signal_after_ray_shutdown_reaches_the_handler(session: dict[str, Any]) -> None:
    """Ray resets the handler at its end, although the report is still to be written."""
    assert session["driver"][3] == [signal.SIGTERM]


@pytest.mark.skipif(not IS_ROOT, reason="only root can run a process as another user")
def test_other_users_cannot_reach_a_private_ray(session: dict[str, Any]) -> None:
    """Its sockets and logs are in a folder that only its user can read."""
    folder, *_ = session["files"]
    sockets = {folder / "sockets" / name for name in ("raylet", "plasma_store")}
    assert sockets <= set(session["files"])
    assert session["listing"] == ["/"]
    assert not folder.exists()
