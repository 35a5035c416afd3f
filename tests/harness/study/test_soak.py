"""Two soaks, made short: .ci/weekly runs the long ones, and one with drivers on sqlite."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults


def soak(*arguments: str) -> str:
    """Run a soak, which has to end well; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_short_soak() -> None:
    """Some trials under kills leave an exact ledger."""
    told = soak("25")
    assert "COMPLETE': 25" in told and "'itself': " in told


def test_studies_whose_drivers_are_killed() -> None:
    """Three of them, on a server that errs, leave what an undisturbed one leaves."""
    told = soak("server", "3", "1", "3")
    assert "3 studies, kills: {'" in told and "; 3 whole; " in told
