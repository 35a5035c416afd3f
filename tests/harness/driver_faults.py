"""Faults that strike a driver from inside, at a place that a test chooses."""

import itertools
import os
import pkgutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.ray import deaths
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
        place = f"mlflow.tracking.MlflowClient.{fault['die']['in']}"
        _strike(place, signal.SIGKILL, fault["die"]["call"], fault["die"]["after"])
    if "start" in fault:
        deaths.START_SECONDS = fault["start"]
    if "terminate" in fault:
        _strike(fault["terminate"], signal.SIGTERM, 1, False)
    if "jump" in fault:
        _once(log, fault["at"], lambda: _jump(fault["jump"]))
    if "shell" in fault:
        _once(log, fault["at"], lambda: subprocess.run(fault["shell"], shell=True, check=False))


def _strike(place: str, number: signal.Signals, call: int, after: bool) -> None:
    """Signal this process at the n-th call of a function, before or after it."""
    home, name = pkgutil.resolve_name(place.rpartition(".")[0]), place.rpartition(".")[2]
    original, calls = getattr(home, name), itertools.count(1)

    def struck(*args: Any, **keys: Any) -> Any:
        now = next(calls) == call
        if now and not after:
            os.kill(os.getpid(), number)
        found = original(*args, **keys)
        if now and after:
            os.kill(os.getpid(), number)
        return found

    setattr(home, name, struck)


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
