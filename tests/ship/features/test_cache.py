"""The cache of arrays: atomic, checked, mapped, and readable by safetensors itself."""

import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ship.features.cache import cache_key, cache_path, read_features, write_features

KEY = cache_key({"what": "test"})
ARRAY = np.random.default_rng(0).standard_normal((7, 3, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds ARRAY."""
    path = cache_path(tmp_path / "not" / "there yet", "image_folder:a/b pocket", KEY)
    write_features(path, KEY, ARRAY)
    return path


def test_round_trip_is_exact_read_only_and_mapped(path: Path) -> None:
    """The array comes back bit for bit, as a read-only view of the file, not as a copy."""
    found = read_features(path, KEY)
    assert found is not None
    assert type(found) is np.ndarray
    assert np.array_equal(found, ARRAY)
    assert not found.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_safetensors_reads_the_file(path: Path) -> None:
    """The format is safetensors' own, names are safe, and other users may read what umask lets."""
    assert np.array_equal(load_file(path)["features"], ARRAY)
    assert path.name.startswith("image_folder_a_b_pocket-")
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def truncate(path: Path) -> None:
    """Cut the last float off."""
    path.write_bytes(path.read_bytes()[:-4])


def flip(path: Path) -> None:
    """Change one bit of the data."""
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    """Leave nothing."""
    path.write_bytes(b"")


def junk(path: Path) -> None:
    """Leave bytes that claim a huge header."""
    path.write_bytes(b"\xff" * 100)


def no_json(path: Path) -> None:
    """Spoil the header."""
    path.write_bytes(path.read_bytes().replace(b'"shape"', b'"shapx"'))


def reshape(path: Path) -> None:
    """Claim another shape than the data has."""
    path.write_bytes(path.read_bytes().replace(b"[7, 3, 5]", b"[7, 3, 6]"))


@pytest.mark.parametrize("damage", [truncate, flip, empty, junk, no_json, reshape])
def test_a_damaged_file_is_none_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    """Whatever happened to the file, it is not used, and the warning names it."""
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert read_features(path, KEY) is None
    assert str(path) in caplog.text
    assert "extracting again" in caplog.text


def test_a_file_under_another_key_is_not_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A renamed file does not pass for what its new name says."""
    assert read_features(path, cache_key({"what": "else"})) is None
    assert "written for something else" in caplog.text


def test_a_missing_file_is_none_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first run is not a fault."""
    assert read_features(tmp_path / "x", KEY) is None
    assert not caplog.records


def test_a_folder_that_cannot_be_written_costs_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a file stands in the folder's place, the run goes on."""
    (tmp_path / "file").write_text("x")
    write_features(tmp_path / "file" / "x.safetensors", KEY, ARRAY)
    assert "cannot be kept" in caplog.text


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that dies before its rename leaves neither a file nor a temporary one."""

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "x.safetensors", KEY, ARRAY)
    assert not list(tmp_path.iterdir())


def _write_often(path: Path) -> None:
    for _ in range(50):
        write_features(path, KEY, ARRAY)


def test_processes_that_write_the_same_file_do_not_spoil_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While two processes write, every read finds a whole file."""
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_often, args=(path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        found = read_features(path, KEY)
        assert found is not None
        assert np.array_equal(found, ARRAY)
        reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert reads > 0
    assert not caplog.records
    assert len(list(path.parent.iterdir())) == 1


def test_a_mapped_array_outlives_its_file(path: Path) -> None:
    """Replacing or removing the file does not disturb a reader."""
    found = read_features(path, KEY)
    write_features(path, KEY, np.zeros_like(ARRAY))
    path.unlink()
    assert found is not None
    assert np.array_equal(found, ARRAY)


def test_the_key_follows_every_part() -> None:
    """Any part changes the key; their order does not."""
    assert cache_key({"a": 1, "b": "2"}) == cache_key({"b": "2", "a": 1})
    assert len({cache_key({"a": 1}), cache_key({"a": 2}), cache_key({"b": 1})}) == 3
