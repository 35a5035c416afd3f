"""Faults that strike a driver from inside, at a place that a test chooses."""

import importlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.cluster import dead_ray
from tests.harness.fakes import trial_lines


def arrange(fault: Mapping[str, Any], log: Path) -> None:
    """Prepare a fault.

    Args:
        fault: {"die": {"in": method of MlflowClient, "call": n, "after": bool}} for kill -9 at its
            n-th call; {"jump": seconds} for the wall clock, {"shell": command} to run, both once
            `at` (seed, setting) pairs have been started; {"terminate": function} for a SIGTERM when
            that function, by its dotted name, is called; {"start": seconds} that Ray has to start.
        log: of the analytic method.
    """
    if "die" in fault:
        _die(fault["die"]["in"], fault["die"]["call"], fault["die"]["after"])
    if "start" in fault:
        dead_ray.START_SECONDS = fault["start"]
    if "terminate" in fault:
        _terminate(*fault["terminate"].rsplit(".", 1))
    if "jump" in fault:
        _once(log, fault["at"], lambda: _jump(fault["jump"]))
    if "shell" in fault:
        _once(log, fault["at"], lambda: subprocess.run(fault["shell"], shell=True, check=False))


def _die(name: str, call: int, after: bool) -> None:
    from mlflow.tracking import MlflowClient

    original = getattr(MlflowClient, name)
    left = [call]

    def dying(*args: Any, **keys: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*args, **keys)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(MlflowClient, name, dying)


def _terminate(module: str, name: str) -> None:
    home = importlib.import_module(module)
    original = getattr(home, name)

    def signalled(*args: Any, **keys: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **keys)

    setattr(home, name, signalled)


def _once(log: Path, lines: int, act: Callable[[], object]) -> None:
    """Act when the method has begun so many (setting, seed) pairs."""

    def watch() -> None:
        while len(trial_lines(log)) < lines:
            time.sleep(0.02)
        act()

    threading.Thread(target=watch, daemon=True).start()


def _jump(seconds: float) -> None:
    """Set the wall clock as Python sees it; the monotonic one goes on as a real one would."""
    original = time.time
    time.time = lambda: original() + seconds
