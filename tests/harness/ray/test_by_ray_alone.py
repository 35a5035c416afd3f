"""What Ray does without harness.ray's workarounds.

A test of this file that fails reports that Ray does better now. What it protects from can go, once
the oldest Ray of pyproject.toml does so too.
"""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError

from harness.ray.patches import MODE, TOKEN, TOKEN_PATH
from tests.harness.listening import is_loopback

ROOT = Path(__file__).parents[3]
ALONE = """
import importlib.util, json, os, psutil, ray, signal

signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
sockets = [
    socket.laddr.ip
    for process in psutil.Process().children(recursive=True)
    for socket in process.net_connections("tcp")
    if socket.status == psutil.CONN_LISTEN
]
find = ray.remote(lambda: importlib.util.find_spec("made_up") is not None)
print(json.dumps([sockets, ray.get(find.remote())]), flush=True)
signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
ray.shutdown()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Describe a session started by Ray alone, for a user with a usual umask and no token."""
    home = tmp_path_factory.mktemp("home")
    (home / "made_up").mkdir()
    unset = (MODE, TOKEN, TOKEN_PATH)
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALONE],
        cwd=home,
        env={name: of for name, of in os.environ.items() if name not in unset}
        | {"HOME": str(home)},
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout, done.stderr
    first, *rest = done.stdout.splitlines()
    sockets, finds = json.loads(first)
    token = home / ".ray" / "auth_token"
    return {
        "sockets": sockets,
        "finds the folder": finds,
        "token's mode": stat.S_IMODE(token.stat().st_mode) if token.is_file() else None,
        "end": (done.returncode, rest),
    }


@pytest.mark.weekly
def test_ray_listens_on_every_interface(alone: dict[str, Any]) -> None:
    """This is why private_ray exists: a study on one machine listens only on loopback."""
    assert not all(map(is_loopback, alone["sockets"]))


@pytest.mark.weekly
def test_other_users_can_read_rays_token(alone: dict[str, Any]) -> None:
    """This is why private_ray sets its own token. Ray before 2.59 requires no token."""
    assert alone["token's mode"] in (None, 0o644)


@pytest.mark.weekly
def test_workers_import_from_working_directory(alone: dict[str, Any]) -> None:
    """This is why filter_worker_sys_path exists: a folder can hide an installed package."""
    assert alone["finds the folder"]


@pytest.mark.weekly
def test_ray_shutdown_resets_sigterm(alone: dict[str, Any]) -> None:
    """This is why restore_signal_handlers exists: SIGTERM would end a study before its report."""
    assert alone["end"] == (-signal.SIGTERM, [])


def test_tune_fails_when_ray_kills_a_worker_for_memory() -> None:
    """This is why report_memory_kills_as_deaths exists: one large trial would end the study."""
    manager: Any = object.__new__(RayActorManager)
    with pytest.raises(RuntimeError, match="unexpected exception"):
        manager._actor_task_failed(Mock(), OutOfMemoryError("x"))


RAYLET_ENDS = """
import os, ray, signal, sys, time
from contextlib import nullcontext
from harness.ray.session import block_sigterm
from tests.harness.listening import descendants, program

with {}():
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
kept = ray.put(bytes(1_000_000))
(raylet,) = (pid for pid in descendants(os.getpid()) if program(pid) == "raylet")
os.kill(raylet, signal.SIGTERM)
time.sleep(10)
print("goes on", ray.get(kept) == bytes(1_000_000), flush=True)
os._exit(0)
"""
# Cycles that hold references to Ray's objects, and a collection within Ray's shutdown.
GARBAGE = """
import gc, threading
from contextlib import nullcontext
import ray
from ray._private.worker import global_worker
from harness.ray.session import shut_ray_down_at_exit

class Core:
    def __getattr__(self, name):
        return getattr(core, name)

    def shutdown_driver(self):
        core.shutdown_driver()
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
cycles = [[ray.put(0)] for _ in range(10)]
for cycle in cycles:
    cycle.append(cycle)
gc.collect()  # from now on only a full collection finds them
core = global_worker.core_worker
global_worker.core_worker = Core()
with {}():
    del cycle, cycles
ray.shutdown()
print("goes on True")
"""
# A process that init has adopted, as one that a shell as a container's process 1 has started.
ORPHAN = """
import os, time
first = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == first:
    time.sleep(0.01)
if os.getppid() != 1:
    print("not adopted by init", flush=True)
    os._exit(0)
if "{}":
    os.environ["{}"] = str(os.getpid())
import ray, signal
from tests.harness.listening import descendants, program
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
(raylet,) = (pid for pid in descendants(os.getpid()) if program(pid) == "raylet")
os.kill(raylet, signal.SIGKILL)
time.sleep(1)
ray.shutdown()
print("goes on True", flush=True)
os._exit(0)
"""


def output_of(script: str, protection: str) -> str:
    """Return what a script prints with or without a workaround."""
    start = [sys.executable, "-c", script.replace("{}", protection)]
    environment = {**os.environ, MODE: "disabled", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_RAYLET_PID", None)
    return subprocess.run(
        start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120
    ).stdout.decode()


@pytest.mark.weekly
@pytest.mark.parametrize(
    ("script", "alone", "protected"),
    [
        pytest.param(RAYLET_ENDS, "nullcontext", "block_sigterm", id="SIGTERM to the raylet"),
        pytest.param(
            GARBAGE, "nullcontext", "shut_ray_down_at_exit", id="garbage while Ray is left"
        ),
        pytest.param(ORPHAN, "", "RAY_RAYLET_PID", id="an adopted driver whose raylet dies"),
    ],
)
def test_rays_core_ends_an_unprotected_driver(script: str, alone: str, protected: str) -> None:
    """It ends without an exception, so the study could print nothing."""
    words = output_of(script, alone)
    if words.startswith("not adopted"):
        pytest.skip(words)
    assert "goes on" not in words
    assert "goes on True" in output_of(script, protected)
