"""The soak, made short: python -m tests.soak runs the long one."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.faults
def test_a_short_soak() -> None:
    """Some trials under kills leave an exact ledger."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "25"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "COMPLETE': 25" in done.stdout
