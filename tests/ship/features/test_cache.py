"""Cached arrays are complete or absent, and damaged ones are extracted again."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ship.features.extract import read_features, write_features
from tests.damage import DAMAGE, Damage, apply_damage

KEY = "a key 0-7"
ARRAY = np.random.default_rng(0).standard_normal((7, 3, 5)).astype(np.float32)
ROWS = (7, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of a file that contains ARRAY."""
    path = tmp_path / "not" / "there yet" / "x.0-7.safetensors"
    assert write_features(path, KEY, ARRAY)
    return path


def fold(path: Path) -> None:
    """Replace the file by a folder."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """Replace the file by a pipe without a writer."""
    path.unlink()
    os.mkfifo(path)


def other(path: Path) -> None:
    """Write integers with the expected key and checksum."""
    save_file({"features": np.zeros((7, 3, 5), dtype=np.int32)}, path, {"key": KEY})


def half(path: Path) -> None:
    """Write a type that numpy does not have."""
    path.write_bytes(safetensors.torch.save({"features": torch.zeros(7, 3, 5).bfloat16()}))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "incomplete"),
        (lambda path: path.write_bytes(b"\xff" * 8 + b"[" * (1 << 22)), "header"),
        (lambda path: write_features(path, "another key", ARRAY), "other data"),
        (lambda path: write_features(path, KEY, ARRAY[1:]), r"shape \(6, 3, 5\)"),
        (other, "got int32 of shape"),
        (half, "bfloat16"),
        (fold, "not a regular file"),
        (pipe, "not a regular file"),
    ],
    ids=[
        "cut",
        "brackets",
        "another key",
        "fewer rows",
        "integers",
        "halves",
        "a folder",
        "a pipe",
    ],
)
def test_invalid_cache_file_is_reported_removed_and_rewritten(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], why: str
) -> None:
    """One warning has the file and the fault."""
    damage(path)
    assert read_features(path, KEY, ROWS) is None
    (record,) = caplog.records
    message = record.getMessage()
    assert str(path) in message and "extracting them again" in message
    assert why.replace("\\", "") in message.lower()
    if damage is not fold:
        assert read_features(path, KEY, ROWS) is None  # a missing file is no fault
        assert len(caplog.records) == 1
        assert write_features(path, KEY, ARRAY)
        assert np.array_equal(read_features(path, KEY, ROWS), ARRAY)  # type: ignore[arg-type]


@example(damage=([], 0), appended=b"")
@example(damage=([(155, ord(" ") ^ ord("\r"))], None), appended=b"")
@given(damage=DAMAGE, appended=st.binary(max_size=40))
def test_damaged_cache_file_never_returns_another_array(
    path: Path, damage: Damage, appended: bytes
) -> None:
    """Flipped bytes, truncation and appended bytes give the array or None.

    Some bytes of the header have no meaning, e.g. the spaces around it.
    """
    assert write_features(path, KEY, ARRAY)
    sound = path.read_bytes()
    for changed in (apply_damage(sound, damage), apply_damage(sound, damage) + appended):
        path.write_bytes(changed)
        result = read_features(path, KEY, ROWS)
        assert result is not None or changed != sound
        assert result is None or np.array_equal(result, ARRAY)
