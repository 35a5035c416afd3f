"""Ray's behavior without the workarounds of harness.ray.

If a test of this file fails, the installed Ray no longer needs the workaround. It can be removed
once the oldest Ray that pyproject.toml allows does not need it either.
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
from tests.harness.processes import is_loopback

ROOT = Path(__file__).parents[3]
SESSION_SCRIPT = """
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
def plain_session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Describe a session started without workarounds by a user with a usual umask and no token."""
    home = tmp_path_factory.mktemp("home")
    (home / "made_up").mkdir()
    unset = (MODE, TOKEN, TOKEN_PATH)
    result = subprocess.run(
        [sys.executable, "-P", "-c", SESSION_SCRIPT],
        cwd=home,
        env={name: value for name, value in os.environ.items() if name not in unset}
        | {"HOME": str(home)},
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout, result.stderr
    first, *rest = result.stdout.splitlines()
    sockets, imports_folder = json.loads(first)
    token = home / ".ray" / "auth_token"
    return {
        "sockets": sockets,
        "imports from the folder": imports_folder,
        "token's mode": stat.S_IMODE(token.stat().st_mode) if token.is_file() else None,
        "end": (result.returncode, rest),
    }


@pytest.mark.weekly
def test_ray_listens_on_every_interface(plain_session: dict[str, Any]) -> None:
    """private_ray() makes a study on one machine listen only on loopback."""
    assert not all(map(is_loopback, plain_session["sockets"]))


@pytest.mark.weekly
def test_other_users_can_read_rays_token(plain_session: dict[str, Any]) -> None:
    """private_ray() sets a token without a file. Ray before 2.59 requires no token."""
    assert plain_session["token's mode"] in (None, 0o644)


@pytest.mark.weekly
def test_workers_import_from_working_directory(plain_session: dict[str, Any]) -> None:
    """filter_worker_sys_path() prevents that a folder hides an installed package."""
    assert plain_session["imports from the folder"]


@pytest.mark.weekly
def test_ray_shutdown_resets_sigterm(plain_session: dict[str, Any]) -> None:
    """Without restore_signal_handlers(), SIGTERM would end a study before its report."""
    assert plain_session["end"] == (-signal.SIGTERM, [])


def test_tune_fails_when_ray_kills_a_worker_for_memory() -> None:
    """Without report_memory_kills_as_deaths(), one large trial would end the study."""
    manager: Any = object.__new__(RayActorManager)
    with pytest.raises(RuntimeError, match="unexpected exception"):
        manager._actor_task_failed(Mock(), OutOfMemoryError("x"))


RAYLET_SCRIPT = """
import os, ray, signal, sys, time
from contextlib import nullcontext
from harness.ray.session import block_sigterm
from tests.harness.processes import list_descendants, get_program

with {}():
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
kept = ray.put(bytes(1_000_000))
(raylet,) = (pid for pid in list_descendants(os.getpid()) if get_program(pid) == "raylet")
os.kill(raylet, signal.SIGTERM)
time.sleep(10)
print("continues", ray.get(kept) == bytes(1_000_000), flush=True)
os._exit(0)
"""
# Garbage collection during Ray's shutdown, with cycles that refer to Ray's objects.
GARBAGE_SCRIPT = """
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
print("continues True")
"""
# A process whose parent is init. In a container, this can be a shell that runs as process 1.
ORPHAN_SCRIPT = """
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
from tests.harness.processes import list_descendants, get_program
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
(raylet,) = (pid for pid in list_descendants(os.getpid()) if get_program(pid) == "raylet")
os.kill(raylet, signal.SIGKILL)
time.sleep(1)
ray.shutdown()
print("continues True", flush=True)
os._exit(0)
"""


def run_script(script: str, replacement: str) -> str:
    """Run a script in which "{}" stands for a workaround or its absence, and return its output."""
    command = [sys.executable, "-c", script.replace("{}", replacement)]
    environment = {**os.environ, MODE: "disabled", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_RAYLET_PID", None)
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120
    ).stdout.decode()


@pytest.mark.weekly
@pytest.mark.parametrize(
    ("script", "no_workaround", "workaround"),
    [
        pytest.param(RAYLET_SCRIPT, "nullcontext", "block_sigterm", id="SIGTERM to the raylet"),
        pytest.param(
            GARBAGE_SCRIPT,
            "nullcontext",
            "shut_ray_down_at_exit",
            id="garbage collection during Ray's shutdown",
        ),
        pytest.param(
            ORPHAN_SCRIPT, "", "RAY_RAYLET_PID", id="raylet of a driver whose parent is init dies"
        ),
    ],
)
def test_rays_core_ends_an_unprotected_driver(
    script: str, no_workaround: str, workaround: str
) -> None:
    """There is no exception, so the study could print nothing."""
    output = run_script(script, no_workaround)
    if output.startswith("not adopted"):
        pytest.skip(output)
    assert "continues" not in output
    assert "continues True" in run_script(script, workaround)
