"""A start of Ray ends in a line, whatever Ray does with the process in which it starts."""

import subprocess
import sys

import pytest

from harness.ray.internals import last_error

START = """
import ctypes, os
from harness.ray import session

session.START_SECONDS = 1
with session.bounded_start():
    {}
"""
# PyDLL keeps Python's lock during a call, as Ray's core does while it connects
LOCKED = "ctypes.PyDLL(None).sleep(60)"
BACK = "pass\nwith session.bounded_start():\n    raise SystemExit(2)"


@pytest.mark.parametrize(
    ("inside", "code", "said"),
    [
        pytest.param(LOCKED, 1, "Ray did not start: ", id="no-thread-runs"),
        pytest.param("os._exit(1)", 1, "Ray did not start: ", id="ended"),
        pytest.param(BACK, 2, "", id="started-and-raised"),
    ],
)
def test_a_start_that_does_not_come_back_leaves_a_line(inside: str, code: int, said: str) -> None:
    """One that comes back, by an error too, leaves nothing."""
    start = [sys.executable, "-c", START.format(inside)]
    ended = subprocess.run(start, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == code
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == bool(said)


# Garbage that holds references to Ray's objects, and a thread that allocates within Ray's shutdown.
GARBAGE = """
import gc, threading
import ray
from ray._private.worker import global_worker
from harness.ray.internals import leave_ray

class Core:
    def __getattr__(self, name):
        return getattr(core, name)

    def shutdown_driver(self):
        core.shutdown_driver()
        circles.clear()
        thread = threading.Thread(target=lambda: [[] for _ in range(100_000)])
        thread.start()
        thread.join()

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
circles = [[ray.put(0)] for _ in range(10)]
for circle in circles:
    circle.append(circle)
del circle
core = global_worker.core_worker
global_worker.core_worker = Core()
{}()
print("goes on", gc.isenabled())
"""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("leave", "code", "said"),
    [
        pytest.param("ray.shutdown", 1, "", id="by Ray alone"),
        pytest.param("leave_ray", 0, "goes on True\n", id="as here"),
    ],
)
def test_garbage_does_not_end_a_driver_that_leaves_ray(leave: str, code: int, said: str) -> None:
    """By itself Ray ends a process that drops a reference while its core is shut down."""
    start = [sys.executable, "-c", GARBAGE.replace("{}", leave)]
    ended = subprocess.run(start, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout) == (code, said), ended.stderr


CUDA = """Failure # 1 (occurred at 2026-11-30_05-00-00)
ValueError: an earlier one
Failure # 2 (occurred at 2026-11-30_05-01-00)
ray::ShipTrial() (pid=1, ip=127.0.0.1)
  File "worker.py", line 1, in setup
torch.AcceleratorError: CUDA error: device busy
CUDA kernel errors might be reported at some other call.
Compile with `TORCH_USE_CUDA_DSA`.
"""
DIED = """The actor died unexpectedly before finishing this task.
	class_name: ShipTrial
	pid: 7
Worker exits unexpectedly. The process receives a SIGTERM.
"""


@pytest.mark.parametrize(
    ("text", "begins", "lacks"),
    [
        (CUDA, "torch.AcceleratorError: CUDA error: device busy", "earlier"),
        (DIED, "The actor died unexpectedly before finishing this task. Worker exits", "pid"),
        ("", "its process ended without a word", "pid"),
    ],
)
def test_an_error_is_told_by_what_names_it(text: str, begins: str, lacks: str) -> None:
    """The last of several failures, in one line."""
    told = last_error(text)
    assert told.startswith(begins) and lacks not in told and "\n" not in told
