"""What is remembered of weights and pictures, also on a disk that is full."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from harness.planning.fingerprints import Fingerprints
from tests.harness import fakes


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fingerprint that cannot be written is known all the same, and no half file stays."""
    cache = tmp_path / "cache"
    prints = Fingerprints(fakes.make_method(tmp_path / "log"), None, cache)

    def full(memory: Any, file: Any, **_: Any) -> None:
        file.write("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    assert prints.backbone("pocket") == "weights-of-pocket"
    assert not list(cache.iterdir())


def test_what_was_loaded_anyway_is_remembered(tmp_path: Path) -> None:
    """Whoever asks next loads no weights."""
    method = fakes.make_method(tmp_path / "log")
    Fingerprints(method, None, tmp_path / "cache").remember("pocket", "of a worker")
    assert Fingerprints(method, None, tmp_path / "cache").backbone("pocket") == "of a worker"
