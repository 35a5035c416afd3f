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
    """Return the path of a cache file that contains ARRAY."""
    path = tmp_path / "not" / "there yet" / "x.0-7.safetensors"
    assert write_features(path, KEY, ARRAY)
    return path


def replace_by_folder(path: Path) -> None:
    """Replace the file by a folder."""
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    """Replace the file by a pipe without a writer."""
    path.unlink()
    os.mkfifo(path)


def write_integers(path: Path) -> None:
    """Write integers with the expected key and checksum."""
    save_file({"features": np.zeros((7, 3, 5), dtype=np.int32)}, path, {"key": KEY})


def write_bfloat16(path: Path) -> None:
    """Write numbers of a type that numpy does not have."""
    path.write_bytes(safetensors.torch.save({"features": torch.zeros(7, 3, 5).bfloat16()}))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "incomplete"),
        (lambda path: path.write_bytes(b"\xff" * 8 + b"[" * (1 << 22)), "header"),
        (lambda path: write_features(path, "another key", ARRAY), "other data"),
        (lambda path: write_features(path, KEY, ARRAY[1:]), r"shape \(6, 3, 5\)"),
        (write_integers, "got int32 of shape"),
        (write_bfloat16, "bfloat16"),
        (replace_by_folder, "not a regular file"),
        (replace_by_pipe, "not a regular file"),
    ],
    ids=[
        "truncated",
        "brackets",
        "another key",
        "fewer rows",
        "integers",
        "bfloat16",
        "a folder",
        "a pipe",
    ],
)
def test_invalid_cache_file_is_reported_removed_and_rewritten(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], why: str
) -> None:
    """There is one warning, with the file and the fault."""
    damage(path)
    assert read_features(path, KEY, ROWS) is None
    (record,) = caplog.records
    message = record.getMessage()
    assert str(path) in message and "extracting them again" in message
    assert why.replace("\\", "") in message.lower()
    if damage is not replace_by_folder:
        assert read_features(path, KEY, ROWS) is None  # the file is missing, which is no fault
        assert len(caplog.records) == 1
        assert write_features(path, KEY, ARRAY)
        assert np.array_equal(read_features(path, KEY, ROWS), ARRAY)  # type: ignore[arg-type]


@example(damage=([], 0), appended=b"")
@example(damage=([(155, ord(" ") ^ ord("\r"))], None), appended=b"")
@given(damage=DAMAGE, appended=st.binary(max_size=40))
def test_damaged_cache_file_never_returns_another_array(
    path: Path, damage: Damage, appended: bytes
) -> None:
    """After flipped bytes, truncation and appended bytes the result is the array or None.

    Some bytes of the header, such as spaces, can change without changing the array.
    """
    assert write_features(path, KEY, ARRAY)
    intact = path.read_bytes()
    for content in (apply_damage(intact, damage), apply_damage(intact, damage) + appended):
        path.write_bytes(content)
        result = read_features(path, KEY, ROWS)
        assert result is not None or content != intact
        assert result is None or np.array_equal(result, ARRAY)
