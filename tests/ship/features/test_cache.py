"""The cache of arrays: whole files or none, and a damaged one is extracted again."""

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

KEY = "a key 0-7"
ARRAY = np.random.default_rng(0).standard_normal((7, 3, 5)).astype(np.float32)
ROWS = (7, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds ARRAY."""
    path = tmp_path / "not" / "there yet" / "x.0-7.safetensors"
    assert write_features(path, KEY, ARRAY)
    return path


def test_an_array_comes_back_to_the_bit(path: Path) -> None:
    """Nothing lies beside it, and others may read what the umask lets them."""
    found = read_features(path, KEY, ROWS)
    assert found is not None and np.array_equal(found, ARRAY)
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(path.parent.iterdir()) == [path]


def fold(path: Path) -> None:
    """A folder in the file's place."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """A pipe in its place, from which nobody would ever read to the end."""
    path.unlink()
    os.mkfifo(path)


def other(path: Path) -> None:
    """Its key and checksum, above integers."""
    save_file({"features": np.zeros((7, 3, 5), dtype=np.int32)}, path, {"key": KEY})


def half(path: Path) -> None:
    """Of a type that numpy does not know."""
    path.write_bytes(safetensors.torch.save({"features": torch.zeros(7, 3, 5).bfloat16()}))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "incomplete"),
        (lambda path: path.write_bytes(b"\xff" * 8 + b"[" * (1 << 22)), "header"),
        (lambda path: write_features(path, "another key", ARRAY), "something else"),
        (lambda path: write_features(path, KEY, ARRAY[1:]), r"its shape is \(6, 3, 5\)"),
        (other, "its type int32"),
        (half, "bfloat16"),
        (fold, "it is no file"),
        (pipe, "it is no file"),
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
def test_what_is_not_sound_is_named_removed_and_written_anew(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], why: str
) -> None:
    """In one line."""
    damage(path)
    assert read_features(path, KEY, ROWS) is None
    (record,) = caplog.records
    said = record.getMessage()
    assert str(path) in said and why.replace("\\", "") in said and "extracting again" in said
    if damage is not fold:
        assert read_features(path, KEY, ROWS) is None  # there is none: that is no fault
        assert len(caplog.records) == 1
        assert write_features(path, KEY, ARRAY)
        assert np.array_equal(read_features(path, KEY, ROWS), ARRAY)  # type: ignore[arg-type]


@example(flips=[(0, 0)], kept=0, appended=b"")
@given(
    flips=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
    kept=st.integers(0),
    appended=st.binary(max_size=40),
)
def test_no_damage_gives_another_array(
    path: Path, flips: list[tuple[int, int]], kept: int, appended: bytes
) -> None:
    """Flipped bytes anywhere, a cut, and what is put behind it."""
    assert write_features(path, KEY, ARRAY)
    sound = path.read_bytes()
    content = bytearray(sound)
    for place, bits in flips:
        content[place % len(content)] ^= bits
    for changed in (bytes(content), content[: kept % (len(sound) + 1)] + appended):
        path.write_bytes(changed)
        found = read_features(path, KEY, ROWS)
        assert (found is not None) is (changed == sound)
        assert found is None or np.array_equal(found, ARRAY)


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that cannot be written costs a warning; an interrupt before the end, its file."""
    (tmp_path / "file").write_text("x")
    assert not write_features(tmp_path / "file" / "x", KEY, ARRAY)
    assert "cannot be kept" in caplog.text

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "x", KEY, ARRAY)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
