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
from hypothesis import strategies as st

from harness.store.errors import StoreError
from harness.store.outbox import queue_file
from harness.store.outbox.journal import Drivers, Head, Journal, waits
from reports.contract import Tag

HEAD = Head("http://server:5000", "small", "7")
POINT = {"run_id": "r", "metrics": [["m", 0.1, 5, 0]]}


def opened(path: Path, head: Head = HEAD, drivers: Drivers | None = None) -> Journal:
    """The journal as a new process finds it."""
    return Journal(path, head, drivers or Drivers())


def numbers(journal: Journal) -> list[int]:
    """Of the writes that wait."""
    return [queued.number for queued in journal.waiting]


def change(path: Path, statement: str, *values: Any) -> None:
    """Change the file behind the journal's back."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute(statement, values)


def rows(path: Path) -> list[Any]:
    """All that the file holds."""
    with closing(sqlite3.connect(path)) as base:
        return base.execute("SELECT * FROM writes").fetchall()


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
    """A file with three writes, of which the first, which made a run, is done."""
    journal = opened(tmp_path / "folder" / "queue.sqlite3")
    journal.append("create_run", {"tags": {Tag.RUN_KEY: "key"}})
    for number in (1, 2):
        journal.append("log_batch", {"run_id": "r", "metrics": [["m", 0.1 + number, 5, number]]})
    journal.runs["key"] = "run-1"
    journal.done()
    return journal.path


def test_the_file_is_the_owners_alone_and_empty_when_all_is_done(path: Path) -> None:
    """Tags may say what somebody works on."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    journal = opened(path)
    journal.done()
    journal.done()
    assert list(path.parent.iterdir()) == [path] and not rows(path)
    journal.append("update_run", {"run_id": "r", "status": "RUNNING"})
    assert numbers(opened(path)) == [4]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """A dry run touches nothing."""
    assert not waits(tmp_path / "outbox" / "queue.sqlite3", "uri", "small")
    assert not list(tmp_path.iterdir())


def test_processes_that_add_and_remove_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each study sees its own writes and no others, from the first one on, which makes the file."""
    path = tmp_path / "outbox" / "queue.sqlite3"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.store.outbox.journal import Drivers, Head, Journal\n"
        "for turn in range(20):\n"
        "    for count in range(1, 3):\n"
        "        own = Journal(Path(sys.argv[1]), Head('u', sys.argv[2], '7'), Drivers())\n"
        "        assert len(own.waiting) == count - 1, own.waiting\n"
        "        own.append('log_batch', {'turn': turn})\n"
        "    own.done(); own.done()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    running = [subprocess.Popen([*command, study]) for study in "abcd"]
    assert [process.wait(120) for process in running] == [0] * 4
    assert not rows(path)


@pytest.mark.parametrize("text", ["{", "\0", "[[]]", "7", "[" * 100_000, '{"a":' * 100_000])
def test_a_damaged_write_is_an_error_that_names_it(path: Path, text: str) -> None:
    """However deep it is nested; nothing is thrown away: somebody may repair it."""
    change(path, "UPDATE writes SET arguments = ? WHERE number = 3", text)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"{path.name}: write 3 is damaged .*go on without"):
        opened(path)
    assert path.read_bytes() == before


@given(st.data())
def test_a_damaged_file_is_one_line(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Whatever bytes were changed, or cut off."""
    path = tmp_path_factory.mktemp("damaged") / "queue.sqlite3"
    journal = opened(path)
    for _ in range(3):
        journal.append("log_batch", POINT)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        opened(path)
    except StoreError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_another_versions_file_is_refused(path: Path) -> None:
    """Not misread."""
    change(path, "PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="another version"):
        opened(path)


def test_each_store_study_and_driver_has_its_rows(path: Path) -> None:
    """Others neither see nor remove them."""
    for head in (Head("elsewhere", "small", "7"), Head(HEAD.uri, "it's another", "7")):
        other = opened(path, head)
        assert not other.waiting and not waits(path, head.uri, head.study)
        other.append("log_batch", POINT)
        other.done()
    assert waits(path, HEAD.uri, "small")
    assert numbers(opened(path)) == [2, 3]


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """A write that cannot be added is an error; the next one that can is behind the others.

    Writes go out meanwhile; what is done is marked with the next change, or sent once more after a
    crash. The last one must not come back over later ones: that its row stays is an error.
    """
    journal = opened(path)
    with full_disk(), pytest.raises(StoreError, match=rf"{path.name}: cannot be used: "):
        journal.append("delete_tag", {"run_id": "r", "key": "k"})
    assert numbers(opened(path)) == [2, 3]
    with full_disk():
        journal.done()
    assert numbers(journal) == [3] and numbers(opened(path)) == [2, 3]
    journal.append("delete_tag", {"run_id": "r", "key": "l"})
    assert numbers(opened(path)) == [3, 4]
    journal.done()
    with full_disk(), pytest.raises(StoreError, match="cannot be used"):
        journal.done()
    journal.done()
    assert not rows(path)


def test_a_file_that_somebody_holds_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while."""
    monkeypatch.setattr(queue_file, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="cannot be used: database is locked"):
            opened(path)
    assert numbers(opened(path)) == [2, 3]


def test_a_place_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    """A folder in the file's place, a file in the folder's."""
    with pytest.raises(StoreError, match="cannot be used: unable to open database file"):
        opened(tmp_path)
    (tmp_path / "outbox").touch()
    with pytest.raises(StoreError, match=r"outbox/queue\.sqlite3: cannot be used: "):
        opened(tmp_path / "outbox" / "queue.sqlite3").append("log_batch", POINT)
