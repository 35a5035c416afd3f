"""A Ray of the study's own, as its workers see it, and as other users of the machine do."""

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
    told = [ray.get(ray.remote(ask).remote()), ray.get_runtime_context().runtime_env]
    print(json.dumps([*told, worker._global_node.get_session_dir_path()]), flush=True)
    input()
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps([*ask(), signals]))
"""
pytestmark = pytest.mark.slow
SOMEBODY = 65534
IS_ROOT = os.getuid() == 0  # who alone can be somebody else


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is told of a session from inside, what lies in its folder, and what others see of it."""
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
    told = {"worker": worker, "runtime_env": runtime_env, "driver": json.loads(driver)}
    return {**told, "inside": inside, "seen": seen.splitlines()}


def test_workers_have_the_threads_of_a_trial_and_import_as_the_driver_does(
    session: dict[str, Any],
) -> None:
    """Whatever the driver's threads are, which stay; Ray may start workers ahead of a first trial.

    A folder where a study is started does not hide an installed package of its name.
    """
    assert session["worker"] == ["1", "PASSIVE", "None"]
    assert session["runtime_env"] == {}  # else no process that is there already would do
    assert session["driver"][:3] == ["7", None, "None"]


def test_a_signal_after_ray_was_left_reaches_the_drivers_handler(session: dict[str, Any]) -> None:
    """Ray resets the signal's action as it ends; the driver is then still to write its report."""
    assert session["driver"][3] == [signal.SIGTERM]


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else")
def test_no_other_user_reaches_a_private_ray(session: dict[str, Any]) -> None:
    """Its sockets, which carry pickles, and its logs lie in a folder of its user's alone."""
    folder, *_ = session["inside"]
    sockets = {folder / "sockets" / name for name in ("raylet", "plasma_store")}
    assert sockets <= set(session["inside"])
    assert session["seen"] == ["/"]
    assert not folder.exists()
