"""The queue on disk: what a crash tears off is dropped, and nothing else."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from harness.store.outbox.folder import queue_path
from harness.store.outbox.journal import Head, QueueError, QueueFile

HEAD = Head("http://server:5000", "small", "7")


def opened(path: Path, head: Head = HEAD) -> QueueFile:
    """The queue as a new process finds it."""
    return QueueFile(path, head)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three writes, of which the first is done."""
    queue = opened(tmp_path / "folder" / "queue.jsonl")
    for number in range(3):
        queue.append("log_batch", {"run_id": "r", "metrics": [["m", 0.1 + number, 5, number]]})
    queue.done(("key", "run-1"))
    return queue.path


def test_what_waits_is_found_again(path: Path) -> None:
    """In order, with the numbers that went in, and which runs were made."""
    queue = opened(path)
    assert [queued.number for queued in queue.waiting] == [2, 3]
    assert queue.waiting[1].arguments["metrics"] == [["m", 2.1, 5, 2]]
    assert queue.runs == {"key": "run-1"}
    queue.append("delete_tag", {"run_id": "r", "key": "k"})
    assert [queued.number for queued in opened(path).waiting] == [2, 3, 4]


def test_the_file_is_the_owners_alone_and_goes_when_all_is_done(path: Path) -> None:
    """Tags may say what somebody works on."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    queue = opened(path)
    queue.done()
    queue.done()
    assert not path.exists()
    queue.append("update_run", {"run_id": "r", "status": "RUNNING"})
    assert [queued.number for queued in opened(path).waiting] == [1]


def test_a_torn_line_is_dropped_wherever_it_is_torn(path: Path) -> None:
    """A write that was being added when its process died has not happened."""
    whole = path.read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1
    begin = whole.rindex(b"\n", 0, begin - 1) + 1  # of the third write, before the done line
    end = whole.index(b"\n", begin)
    for cut in range(begin, end + 1):
        path.write_bytes(whole[:cut])
        assert [queued.number for queued in opened(path).waiting] == [1, 2]
    queue = opened(path)
    queue.append("update_run", {"run_id": "r", "status": "RUNNING"})
    assert [queued.call for queued in opened(path).waiting][2:] == ["update_run"]


def test_a_torn_head_is_an_empty_queue(path: Path) -> None:
    """Nothing was in it yet."""
    path.write_bytes(path.read_bytes()[:20])
    assert not opened(path).waiting


@pytest.mark.parametrize("garbage", [b"\0\0\0\0", b'{"write": 2}', b"[]", b'{"done": 9, "run": 0}'])
def test_damage_in_the_middle_is_an_error_that_names_the_line(path: Path, garbage: bytes) -> None:
    """Nothing is thrown away: somebody may repair it."""
    lines = path.read_bytes().split(b"\n")
    lines[2] = garbage
    damaged = b"\n".join(lines)
    path.write_bytes(damaged)
    with pytest.raises(QueueError, match=rf"{path.name}: line 3 is damaged .*move it away"):
        opened(path)
    assert path.read_bytes() == damaged


def test_a_lost_line_in_the_middle_is_damage(path: Path) -> None:
    """The numbers tell."""
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:2] + lines[3:]))
    with pytest.raises(QueueError, match="write 2 must follow"):
        opened(path)


def test_another_experiments_file_is_refused(path: Path) -> None:
    """E.g. where the server's database was made anew."""
    with pytest.raises(QueueError, match=r"holds writes for experiment 7 .* this is experiment 8"):
        opened(path, Head("http://server:5000", "small", "8"))
    assert path.exists()


def test_another_versions_file_is_refused(path: Path) -> None:
    """Not misread."""
    head, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps({**json.loads(head), "outbox": 2}).encode() + b"\n" + rest)
    with pytest.raises(QueueError, match="another version"):
        opened(path)


def test_a_full_disk_is_an_error_and_leaves_the_file_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a line would make the rest unreadable."""
    queue = opened(path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(QueueError, match="cannot be written: No space left"):
            queue.append("update_run", {"run_id": "r", "status": "RUNNING"})
    assert path.read_bytes() == before
    queue.append("update_run", {"run_id": "r", "status": "KILLED"})
    assert opened(path).waiting[-1].arguments["status"] == "KILLED"


def test_a_folder_in_the_files_place_is_a_clear_error(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(QueueError, match="cannot be read"):
        opened(tmp_path)


def test_each_store_and_study_has_its_file(tmp_path: Path) -> None:
    """The name is no path of its own, whatever the study is called."""
    places: list[Any] = [("a", "x"), ("b", "x"), ("a", "y"), ("a", "../../y")]
    paths = {queue_path(tmp_path, uri, study) for uri, study in places}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path}


def test_a_full_disk_keeps_nothing_from_being_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes go out while no line can be added; what is done is said before the next write."""
    queue = opened(path)
    queue.append("delete_tag", {"run_id": "r", "key": "k"})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(QueueFile, "_add_to", full)
        queue.done(("other", "run-2"))
        with pytest.raises(QueueError):
            queue.append("delete_tag", {"run_id": "r", "key": "l"})
    assert [queued.number for queued in queue.waiting] == [3, 4]
    assert [queued.number for queued in opened(path).waiting] == [2, 3, 4]  # sent once more
    queue.done()
    queue.append("delete_tag", {"run_id": "r", "key": "m"})
    found = opened(path)
    assert [queued.number for queued in found.waiting] == [4, 5]
    assert found.runs == {"key": "run-1", "other": "run-2"}
