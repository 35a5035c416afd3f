"""The file of waiting writes: nothing in it is lost, whoever is killed and whoever else uses it."""

import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from harness.store import pending
from harness.store.changes import Changes, Point
from harness.store.errors import StoreError
from harness.store.pending import FILE, FOLDER, Pending, waiting_note
from tests.damage import DAMAGE, Damage, damaged

SERVER = "http://server:5000"


def change_of(step: int) -> Changes:
    """A write to a run."""
    return Changes(run="r", metrics=[Point("m", 0.1 + step, 5, step)])


def opened(path: Path, uri: str = SERVER, study: str = "small") -> Pending:
    """What waits as a new process finds it."""
    return Pending(path, uri, study, "7", "me", "me")


def numbers(waiting: Pending) -> list[int]:
    """Of the writes that wait."""
    return [number for number, _ in waiting.waiting]


def change(path: Path, statement: str, *values: Any) -> None:
    """Change the file behind the journal's back."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute(statement, values)


def rows(path: Path) -> list[Any]:
    """All that the file holds."""
    with closing(sqlite3.connect(path)) as base:
        return base.execute("SELECT * FROM changes").fetchall()


@contextmanager
def full_disk() -> Iterator[None]:
    """This process can write to no file at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three writes, of which the first is done."""
    waiting = opened(tmp_path / FOLDER / FILE)
    for step in range(3):
        waiting.append(change_of(step))
    waiting.done()
    return waiting.path


def test_the_file_is_the_owners_alone_and_empty_when_all_is_done(path: Path) -> None:
    """Tags may say what somebody works on."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    waiting = opened(path)
    assert [changes for _, changes in waiting.waiting] == [change_of(1), change_of(2)]
    waiting.done()
    waiting.done()
    assert list(path.parent.iterdir()) == [path] and not rows(path)
    waiting.append(change_of(3))
    assert numbers(opened(path)) == [4]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """A dry run touches nothing."""
    assert waiting_note(SERVER, "small", tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_processes_that_add_and_remove_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each study sees its own writes and no others, from the first one on, which makes the file."""
    path = tmp_path / FOLDER / FILE
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.store.changes import Changes\n"
        "from harness.store.pending import Pending\n"
        "for turn in range(20):\n"
        "    for count in range(1, 3):\n"
        "        own = Pending(Path(sys.argv[1]), 'u', sys.argv[2], '7', 'me', 'me')\n"
        "        assert len(own.waiting) == count - 1, own.waiting\n"
        "        own.append(Changes(run='r', tags={'turn': str(turn)}))\n"
        "    own.done(); own.done()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    running = [subprocess.Popen([*command, study]) for study in "abcd"]
    assert [process.wait(120) for process in running] == [0] * 4
    assert not rows(path)


@pytest.mark.parametrize("text", ["{", "\0", "[[]]", "7", "[" * 100_000, '{"a":' * 100_000])
def test_a_damaged_write_is_an_error_that_names_it(path: Path, text: str) -> None:
    """However deep it is nested; nothing is thrown away: somebody may repair it."""
    change(path, "UPDATE changes SET changes = ? WHERE number = 3", text)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"{path.name}: write 3 is damaged .*go on without"):
        opened(path)
    assert path.read_bytes() == before


@given(damage=DAMAGE)
def test_a_damaged_file_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    """Whatever bytes were changed, or cut off."""
    path = tmp_path_factory.mktemp("damaged") / FILE
    waiting = opened(path)
    for step in range(3):
        waiting.append(change_of(step))
    path.write_bytes(damaged(path.read_bytes(), damage))
    try:
        opened(path)
    except StoreError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_another_versions_file_is_refused(path: Path) -> None:
    """Not misread."""
    change(path, "PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="another version"):
        opened(path)


def test_each_store_and_study_has_its_rows(path: Path) -> None:
    """Others neither see nor remove them."""
    for uri, study in (("http://elsewhere", "small"), (SERVER, "it's another")):
        other = opened(path, uri, study)
        assert not other.waiting and waiting_note(uri, study, path.parents[1]) is None
        other.append(change_of(0))
        other.done()
    assert waiting_note(SERVER, "small", path.parents[1])
    assert numbers(opened(path)) == [2, 3]


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """A write that cannot be added is an error; the next one that can is behind the others.

    What was sent and cannot be removed is sent once more, which changes nothing.
    """
    waiting = opened(path)
    with full_disk(), pytest.raises(StoreError, match=rf"{path.name}: cannot be used: "):
        waiting.append(change_of(3))
    with full_disk(), pytest.raises(StoreError, match="cannot be used"):
        waiting.done()
    assert numbers(waiting) == numbers(opened(path)) == [2, 3]
    waiting.append(change_of(3))
    assert numbers(opened(path)) == [2, 3, 4]


def test_a_file_that_somebody_holds_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while."""
    monkeypatch.setattr(pending, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="cannot be used: database is locked"):
            opened(path)
    assert numbers(opened(path)) == [2, 3]


def test_a_place_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """A folder in the file's place, a file in the folder's."""
    with pytest.raises(StoreError, match="cannot be used: unable to open database file"):
        opened(tmp_path)
    (tmp_path / FOLDER).touch()
    with pytest.raises(StoreError, match=rf"{FOLDER}/{FILE}: cannot be used: "):
        opened(tmp_path / FOLDER / FILE).append(change_of(0))
