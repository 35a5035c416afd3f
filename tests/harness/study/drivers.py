"""Drivers in separate processes, which tests interrupt and kill."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.harness.conftest import Bench
from tests.harness.processes import find_marked_processes

ROOT = Path(__file__).parents[3]

# Seconds of an epoch that lasts until its worker is killed, so that a trial is always running.
ENDLESS_SECONDS = 3600.0
# Options of faults that concern only the driver and its store: trials run without Ray.
IN_PROCESS = {"in_process": True}


class Driver:
    """A driver in a new process group. The environment of its descendants contains a mark."""

    def __init__(
        self,
        bench: Bench,
        seconds: float,
        name: str = "small",
        fault: Mapping[str, Any] | None = None,
        **environment: str,
    ) -> None:
        self.mark = uuid.uuid4().hex
        paths = [bench.uri, str(bench.log), str(bench.cache), str(seconds)]
        options = fault or {}
        study = {"name": name, **options.get("study", {})}
        paths.append(json.dumps({**options, "study": study}))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.driver", *paths],
            cwd=ROOT,
            env={**os.environ, "SHIP_TEST_MARK": self.mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process group, like a terminal on Ctrl-C."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = 120) -> tuple[int, str]:
        """Wait for the end, and return exit code and output."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output

    def list_survivors(self, *ignored: str) -> list[str]:
        """Return command lines of living descendants, except those that contain an ignored word."""
        return [
            line
            for line in find_marked_processes(self.mark)
            if not any(word in line for word in ignored)
        ]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.1)


def check_interrupted(driver: Driver, bench: Bench) -> None:
    """Check that a driver reports its interruption, and leaves no run RUNNING and no process."""
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output
    assert "Traceback" not in output
    # A worker that was starting at the time of the signal ends a little later.
    wait_for(lambda: not driver.list_survivors(), 20)
    assert "INTERRUPTED" in bench.list_states()
    assert bench.get_study_run().info.status == "KILLED"
    bench.check_invariants()
