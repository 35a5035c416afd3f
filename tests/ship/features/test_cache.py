"""The cache of arrays: atomic, checked, mapped, and readable by NumPy itself."""

import hashlib
import io
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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


def test_numpy_reads_the_file(path: Path) -> None:
    """The format is NumPy's own, names are safe, and other users may read what umask lets."""
    assert np.array_equal(np.load(path, allow_pickle=False), ARRAY)
    assert path.name.startswith("image_folder_a_b_pocket-")
    mask = os.umask(0)
    os.umask(mask)
    files = (path, path.with_suffix(".json"))
    assert all(file.stat().st_mode & 0o777 == 0o666 & ~mask for file in files)
    assert set(path.parent.iterdir()) == set(files)


@pytest.mark.parametrize("shape", [(7, 3, 5), (1,), (0, 3)])
def test_half_precision_round_trips(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """What is of 16 bits stays so, to the bit; what is of 64 is kept in single precision."""
    values = np.random.default_rng(1).standard_normal(shape)
    for dtype, kept in (("f2", "f2"), ("f4", "f4"), ("f8", "f4"), (">f4", "f4")):
        assert write_features(tmp_path / "x.npy", KEY, values.astype(dtype))
        found = read_features(tmp_path / "x.npy", KEY, shape)
        assert found is not None
        assert found.dtype == kept
        assert np.array_equal(found, values.astype(dtype).astype(kept))


def fold(path: Path) -> None:
    """A folder in the array's place."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """A pipe in the JSON's place, from which nobody would ever read to the end."""
    path.with_suffix(".json").unlink()
    os.mkfifo(path.with_suffix(".json"))


@pytest.mark.parametrize(
    ("damage", "gone"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), True),
        (lambda path: path.with_suffix(".json").write_bytes(b"{}"), True),
        (lambda path: path.with_suffix(".json").unlink(), True),
        (Path.unlink, True),
        (fold, False),
        (pipe, False),
    ],
    ids=["cut", "no JSON of ours", "no JSON", "no array", "a folder", "a pipe"],
)
def test_a_damaged_array_is_named_removed_and_can_be_written_anew(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], gone: bool
) -> None:
    """It is complained of once, leaves nothing, and the next write makes it sound."""
    damage(path)
    assert read_features(path, KEY) is None
    (record,) = caplog.records
    assert str(path) in record.getMessage() and "extracting again" in record.getMessage()
    if gone:
        assert not list(path.parent.iterdir())
        assert read_features(path, KEY) is None
        assert len(caplog.records) == 1
        assert write_features(path, KEY, ARRAY)
        assert np.array_equal(read_features(path, KEY), ARRAY)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"PK\5\6" + b"\0" * 18, b"\x80\4N.", "i8"])
def test_a_file_made_to_fit_its_json_is_still_an_array_or_none(
    path: Path, caplog: pytest.LogCaptureFixture, content: bytes | str
) -> None:
    """The checksum of an archive, a pickle, nothing or integers: refused in one line."""
    if isinstance(content, str):
        buffer = io.BytesIO()
        np.save(buffer, np.arange(3, dtype=content))
        content = buffer.getvalue()
    said = path.with_suffix(".json")
    before, after = (
        hashlib.blake2b(data, digest_size=16).hexdigest() for data in (path.read_bytes(), content)
    )
    path.write_bytes(content)
    said.write_text(said.read_text().replace(before, after))
    assert read_features(path, KEY) is None
    assert "it is no array" in caplog.text


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
    write_features(tmp_path / "file" / "x.npy", KEY, ARRAY)
    assert "cannot be kept" in caplog.text


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that dies before its rename leaves neither a file nor a temporary one."""

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "x.npy", KEY, ARRAY)
    assert not list(tmp_path.iterdir())


def _write_often(path: Path) -> None:
    for _ in range(20):
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
    assert len(list(path.parent.iterdir())) == 2


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
