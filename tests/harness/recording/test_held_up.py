"""What a record does not hold the driver up for."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from harness.recording import numbers

SCRIPT = """
import sys, time
from unittest.mock import Mock
from harness.recording import TrialRecorder
assert "scipy.stats" not in sys.modules
TrialRecorder(Mock(), "1", Mock(), Mock(), Mock())
end = time.monotonic() + 60
while "reports.stats" not in sys.modules and time.monotonic() < end:
    time.sleep(0.02)
print("reports.stats" in sys.modules)
"""


def test_the_statistics_are_imported_before_a_trial_ends() -> None:
    """In a thread, from when the recorder is made: importing them takes half a second."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_the_versions_of_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each trial: that took a quarter of the time in which its run begins."""
    asked: list[str] = []
    found = [SimpleNamespace(version="1")]
    monkeypatch.setattr(numbers, "distributions", lambda name: asked.append(name) or found)
    numbers.source_tags.cache_clear()
    try:
        told = [numbers.source_tags() for _ in range(3)]
    finally:
        numbers.source_tags.cache_clear()
    assert tuple(asked) == numbers.PACKAGES
    assert set(json.loads(told[0]["ship.packages"]).values()) == {"1"}
    assert told == told[:1] * 3
