"""The file of waiting writes: nothing in it is lost, whoever is killed."""

import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given

from harness.store.changes import Changes, Point
from harness.store.errors import StoreError
from harness.store.study_store import Pending, waiting_file
from tests.damage import DAMAGE, Damage, damaged


def change_of(step: int) -> Changes:
    """A write to a run."""
    return Changes(run="r", at=5, metrics=[Point("m", 0.1 + step, 5, step)])


def opened(path: Path) -> Pending:
    """What waits as a new process finds it."""
    return Pending(path)


def steps(waiting: Pending) -> list[int]:
    """Of the writes that wait."""
    return [changes.metrics[0].step for changes in waiting.waiting]


@contextmanager
def full_disk() -> Iterator[None]:
    """This process can make no file larger than some bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two writes."""
    waiting = Pending(tmp_path / "outbox" / "a.jsonl")
    for step in range(2):
        waiting.append(change_of(step))
    return waiting.path


def test_the_file_is_the_owners_alone_and_gone_when_all_is_done(path: Path) -> None:
    """Tags may say what somebody works on; later writes make it anew."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    waiting = opened(path)
    assert [*waiting.waiting] == [change_of(0), change_of(1)]
    waiting.done()
    assert path.exists() and steps(waiting) == [1]
    waiting.done()
    assert not list(path.parent.iterdir())
    waiting.append(change_of(2))
    assert steps(opened(path)) == [2]


def test_each_driver_has_its_file(tmp_path: Path) -> None:
    """In the folder of such files, whatever the store says that a driver is called."""
    drivers = ["", "me", "another", "../../elsewhere", "\0"]
    files = [waiting_file(tmp_path, "small", driver) for driver in drivers]
    assert len(set(files)) == len(drivers)
    assert {file.parent for file in files} == {tmp_path / "outbox"}


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_write_that_was_cut_off_is_not_there(path: Path, cut: int) -> None:
    """Its driver was killed before anybody was told that it waits; the next one goes behind."""
    path.write_bytes(path.read_bytes()[:-cut])
    waiting = opened(path)
    assert steps(waiting) == [0]
    waiting.append(change_of(2))
    assert steps(opened(path)) == [0, 2]


@pytest.mark.parametrize("text", ["{", "\0", "[[]]", "7", "[" * 100_000, '{"a":' * 100_000])
def test_a_damaged_write_is_an_error_that_names_the_file(path: Path, text: str) -> None:
    """However deep it is nested; nothing is thrown away: somebody may repair it."""
    before = path.read_bytes() + f"{text}\n".encode()
    path.write_bytes(before)
    with pytest.raises(StoreError, match=rf"{path.name}: is damaged .*move it away"):
        opened(path)
    assert path.read_bytes() == before


@given(damage=DAMAGE)
def test_a_damaged_file_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    """Whatever bytes were changed, or cut off."""
    path = tmp_path_factory.mktemp("damaged") / "a.jsonl"
    waiting = Pending(path)
    for step in range(3):
        waiting.append(change_of(step))
    path.write_bytes(damaged(path.read_bytes(), damage))
    try:
        opened(path)
    except StoreError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """A write that cannot be added is an error; the next one that can is behind the others."""
    waiting = opened(path)
    large = Changes(run="r", tags={"t": "x" * 1000})
    with full_disk(), pytest.raises(StoreError, match=rf"{path.name}: cannot be used: "):
        waiting.append(large)
    assert steps(waiting) == steps(opened(path)) == [0, 1]
    waiting.append(change_of(2))
    assert steps(opened(path)) == [0, 1, 2]


def test_a_place_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """A folder in the file's place, a file in the folder's."""
    with pytest.raises(StoreError, match="cannot be used: Is a directory"):
        opened(tmp_path)
    (tmp_path / "outbox").touch()
    with pytest.raises(StoreError, match=r"outbox/own\.jsonl: cannot be used: "):
        opened(tmp_path / "outbox" / "own.jsonl")
