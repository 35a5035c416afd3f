"""What is remembered of weights."""

from pathlib import Path

from harness.planning.fingerprints import Fingerprints
from tests.harness import fakes


def test_what_was_loaded_anyway_is_remembered(tmp_path: Path) -> None:
    """Whoever asks next loads no weights."""
    method = fakes.make_method(tmp_path / "log")
    Fingerprints(method, None, tmp_path / "cache").remember("pocket", "of a worker")
    assert Fingerprints(method, None, tmp_path / "cache").backbone("pocket") == "of a worker"
