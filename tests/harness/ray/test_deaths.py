"""A start of Ray ends in a line, whatever Ray does with the process in which it starts."""

import subprocess
import sys

import pytest

START = """
import ctypes, os
from harness.ray import deaths

deaths.START_SECONDS = 1
with deaths.bounded_start():
    {}
"""
# PyDLL keeps Python's lock during a call, as Ray's core does while it connects
LOCKED = "ctypes.PyDLL(None).sleep(60)"


@pytest.mark.parametrize(
    ("inside", "code", "said"),
    [
        pytest.param(LOCKED, 1, "Ray did not start: ", id="no-thread-runs"),
        pytest.param("os._exit(1)", 1, "Ray did not start: ", id="ended"),
        pytest.param("raise SystemExit(2)", 2, "", id="raised"),
        pytest.param("pass", 0, "", id="started"),
    ],
)
def test_a_start_that_does_not_come_back_leaves_a_line(inside: str, code: int, said: str) -> None:
    """One that comes back, by an error too, leaves nothing."""
    start = [sys.executable, "-c", START.format(inside)]
    ended = subprocess.run(start, capture_output=True, text=True, check=False, timeout=50)
    assert ended.returncode == code
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == bool(said)
