"""Writes while the store is away, each kind of them lost before and after it took effect."""

import errno
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.store.batches import log, set_state
from harness.store.cleanup import close_dead_runs
from harness.store.datasets import Dataset
from harness.store.errors import StoreAway, StoreError
from harness.store.lock.lease import StudyLost
from harness.store.open import Store
from harness.store.outbox import announcements
from harness.store.outbox import calls as calls_module
from harness.store.outbox import delivery as courier_module
from harness.store.outbox.calls import FILE_TRIES, LOCAL, Sender
from harness.store.outbox.client import FILE, FOLDER, Outbox, outbox, waiting_note
from harness.store.outbox.journal import Drivers, Head, Journal
from reports.contract import State, Tag
from ship.trial.trained.form import MOST_TENSORS
from tests.harness.flaky import URI, FakeStore, FlakyClient

WRITES: dict[str, Callable[[Outbox, str], Any]] = {
    "create_run": lambda box, run: box.create_run("7", "second", {"k": "v"}),
    "log_batch": lambda box, run: log(
        box,
        run,
        metrics={"m": 1.5, "n": 2.0},
        step=3,
        timestamp=5,
        params={"p": 1},
        tags={"t": "u"},
    ),
    "log_file": lambda box, run: box.log_file(run, "trained/x.safetensors", bytes(range(256))),
    "log_files": lambda box, run: box.log_files(run, "report", {"a.md": b"a", "b.png": b"\x89"}),
    "log_datasets": lambda box, run: box.log_datasets(
        run, [Dataset("emoji", "abc" * 20, "training"), Dataset("photos", "d", "test")]
    ),
    "set_state": lambda box, run: set_state(box, run, State.COMPLETE, {"why": "done"}),
    "running": lambda box, run: set_state(box, run, State.RUNNING),
    "delete_tag": lambda box, run: box.delete_tag(run, "k"),
}


class Post:
    """An outbox on a flaky client, without a thread: deliver() sends."""

    def __init__(self, folder: Path, store: FakeStore, *fates: str) -> None:
        self.client = FlakyClient(store, iter(fates))
        self.queue = Journal(folder / FILE, Head("uri", "small", "7"), Drivers())
        self.lines: list[str] = []
        self.sender = Sender(self.client, "7", self.queue.runs)  # type: ignore[arg-type]
        self.box = Outbox(URI, self.sender, self.queue, self.lines.append, background=False)

    def deliver_all(self) -> None:
        """Send until nothing waits."""
        for _ in range(100):
            if not self.box.waiting:
                return
            self.box.deliver()
        raise AssertionError("it never ends")


def undisturbed(folder: Path, write: Callable[[Outbox, str], Any]) -> Any:
    """The store after a run was made and a write to it."""
    store = FakeStore()
    post = Post(folder / "undisturbed", store)
    write(post.box, post.box.create_run("7", "first", {"k": "v"}))
    assert not post.box.waiting
    return store.plain()


NUMBERS = [name for name in WRITES if not name.startswith("log_file")]


@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_run_of_which_the_store_knows_nothing_is_written_to(tmp_path: Path, fate: str) -> None:
    """Its own id becomes the store's when it is made; later writes go straight to that."""
    for name, write in WRITES.items():
        store = FakeStore()
        post = Post(tmp_path / name, store, fate)
        run_id = post.box.create_run("7", "first", {"k": "v"})
        assert run_id.startswith(LOCAL)
        write(post.box, run_id)
        assert post.box.waiting >= 2
        post.deliver_all()
        box = post.box
        box.log_batch(run_id, [])
        assert not post.box.waiting
        assert store.plain() == undisturbed(tmp_path / name, write)
        assert box.stored_id(run_id) in store.runs


def test_a_store_that_refuses_files_does_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At once and where it had waited; the numbers that follow get through."""
    store = FakeStore()
    post = Post(tmp_path, store, "ok", "refused", *["before"] * 3, "refused")
    run_id = post.box.create_run("7", "first", {})
    for name in ("one", "two"):
        post.box.log_file(run_id, name, b"content")
    log(post.box, run_id, tags={"t": "u"})
    post.deliver_all()
    assert store.runs[run_id].files == {}
    assert store.runs[run_id].tags["t"] == "u"
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} could not be kept in MLflow: no such thing" for name in ("one", "two")
    ]


def test_a_full_disk_of_this_machine_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study ends there, so that the next run, with space, has the file."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "file")

    post = Post(tmp_path, FakeStore())
    run_id = post.box.create_run("7", "first", {})
    monkeypatch.setattr(calls_module, "keep_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        post.box.log_file(run_id, "one", b"content")
    assert not post.box.waiting


def test_the_largest_file_can_wait(tmp_path: Path) -> None:
    """What a run may keep of a seed fits a row of the file of waiting writes."""
    store = FakeStore()
    post = Post(tmp_path, store, "ok", *["before"] * 3)
    run_id = post.box.create_run("7", "first", {})
    content, name = bytes(MOST_TENSORS), "trained/seed_2147483647.safetensors"
    post.box.log_file(run_id, name, content)
    assert post.box.waiting
    post.deliver_all()
    assert store.runs[run_id].files == {name: content}


@pytest.mark.parametrize("lost", [1, 2, 3, 9])
@pytest.mark.parametrize("fate", ["before", "after", "now and then"])
def test_a_store_that_is_away_loses_no_file(tmp_path: Path, fate: str, lost: int) -> None:
    """Whether it answers the question behind a try, or not for some time."""
    store = FakeStore()
    fates = [fate] * lost
    if fate == "now and then":
        fates, lost = ["before", "ok"] * min(lost, FILE_TRIES - 1), 0
    post = Post(tmp_path, store, "ok", *fates)
    run_id = post.box.create_run("7", "first", {})
    post.box.log_file(run_id, "one", b"content")
    assert bool(post.box.waiting) == (lost >= 3)
    post.deliver_all()
    assert store.runs[run_id].files == {"one": b"content"}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_refused_write_is_raised_and_does_not_wait(tmp_path: Path, name: str) -> None:
    """A 4xx is a fault: sending it again would not help."""
    post = Post(tmp_path, FakeStore(), "ok", "refused", "refused")
    run_id = post.box.create_run("7", "first", {})
    with pytest.raises(Exception, match="no such thing"):
        WRITES[name](post.box, run_id)
    assert not post.box.waiting


def test_a_waiting_write_that_is_refused_stays_on_disk(tmp_path: Path) -> None:
    """And the error names the file, without the password of the store."""
    post = Post(tmp_path, FakeStore(), "ok", "before", "refused")
    run_id = post.box.create_run("7", "first", {})
    log(post.box, run_id, tags={"t": "u"})
    with pytest.raises(StoreError, match=r"refused write 1 of .*queue.sqlite3: no such") as raised:
        post.box.deliver()
    assert "geheim" not in str(raised.value)
    assert len(Post(tmp_path, FakeStore()).queue.waiting) == 1


def test_a_batch_survives_the_file_to_the_last_digit(tmp_path: Path) -> None:
    """Metrics that are not finite, too."""
    numbers = {"third": 1 / 3, "big": 1e300, "inf": float("inf"), "nan": float("nan")}
    store = FakeStore()
    first = Post(tmp_path, store, "ok", "before")
    run_id = first.box.create_run("7", "first", {})
    log(first.box, run_id, metrics=numbers, step=4, timestamp=9, params={"p": "ä\n\0"})
    second = Post(tmp_path, store)
    second.deliver_all()
    points = {key: value for key, value, *_ in store.runs[run_id].points}
    assert repr(points) == repr(numbers)
    assert store.runs[run_id].params == {"p": "ä\n\\0"}  # PostgreSQL takes no NUL
    assert store.runs[run_id].points[0][2:] == (9, 4)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A courier that is soon out of patience."""
    monkeypatch.setattr(courier_module, "PATIENCE", 1.0)
    monkeypatch.setattr(courier_module, "HURRIED", 0.1)
    monkeypatch.setattr(courier_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(announcements, "UNSEEN", 0.0)


def study_store(client: FlakyClient) -> Store:
    """A store as run_study opens it."""
    return Store(URI, client, None)  # type: ignore[arg-type]


def always(fate: str) -> Iterator[str]:
    """The same for ever."""
    while True:
        yield fate


def test_a_thread_sends_what_waits_and_says_so(tmp_path: Path, quick: None) -> None:
    """One line when the store is gone, one when it is back."""
    store, lines = FakeStore(), list[str]()
    client = FlakyClient(store, iter(["ok", *["before"] * 6]))
    with outbox(study_store(client), "small", "7", tmp_path, lines.append) as opened:
        run_id = opened.create_run("7", "first", {})
        for step in range(20):
            log(opened.writer, run_id, metrics={"m": 1.0}, step=step)
        assert opened.read(lambda client: len(client.get_run(run_id).data.tags)) == 1
    assert [point[3] for point in store.runs[run_id].points] == list(range(20))
    gone, *waits, back = lines
    assert "does not answer (connection refused): the study goes on, its writes wait in" in gone
    assert "answers again: 20 writes sent" in back
    assert len(waits) <= 1
    assert waiting_note(URI, "small", tmp_path) is None


def test_a_store_that_stays_away_ends_the_wait(tmp_path: Path, quick: None) -> None:
    """One line that counts the writes, names the file and shows no password; the next run sends."""
    store, lines = FakeStore(), list[str]()
    down = study_store(FlakyClient(store, always("before")))
    with (
        pytest.raises(StoreAway) as raised,
        outbox(down, "small", "7", tmp_path, lines.append) as opened,
    ):
        log(opened.writer, opened.create_run("7", "first", {}), params={"p": 1})
        opened.stored_id("local-x")
    (file,) = (tmp_path / FOLDER).iterdir()
    assert str(raised.value) == (
        f"http://***@server:5000: the MLflow store does not answer (connection refused): 2 writes "
        f"wait in {file}; run the same command again when it does"
    )
    assert any(
        line.startswith("waiting up to 1 s for the MLflow store: 2 writes") for line in lines
    )
    assert b"geheim" not in "".join(lines).encode() + file.read_bytes()
    assert f"wait in {file}" in str(waiting_note(URI, "small", tmp_path))
    up = study_store(FlakyClient(store, iter(())))
    with outbox(up, "small", "7", tmp_path, lines.append):
        assert [run.params for run in store.runs.values()] == [{"p": "1"}]
    assert waiting_note(URI, "small", tmp_path) is None
    assert any(line.startswith("2 writes of an earlier run wait in") for line in lines)


def test_a_hurried_study_does_not_wait(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C; the line about what waits is said, and the interrupt goes on its way."""
    monkeypatch.setattr(courier_module, "PATIENCE", 600.0)
    lines: list[str] = []
    down = study_store(FlakyClient(FakeStore(), always("before")))
    with (
        pytest.raises(KeyboardInterrupt),
        outbox(down, "small", "7", tmp_path, lines.append) as opened,
    ):
        opened.create_run("7", "first", {})
        opened.hurry()
        with pytest.raises(StoreAway):
            opened.read(lambda client: None)
        raise KeyboardInterrupt
    assert "1 write wait" in lines[-1]


def test_a_study_that_was_lost_is_not_told_to_run_again(tmp_path: Path, quick: None) -> None:
    """What waits will not be sent: nobody is told that the same command sends it."""
    lines: list[str] = []
    down = study_store(FlakyClient(FakeStore(), always("before")))
    with (
        pytest.raises(StudyLost),
        outbox(down, "small", "7", tmp_path, lines.append) as opened,
    ):
        opened.create_run("7", "first", {})
        raise StudyLost("it is another's")
    left = "left out, as another driver has the study: 1 writes in "
    assert any(line.startswith(left) for line in lines)
    assert not any("run the same command" in line for line in lines)


def test_a_read_waits_for_a_store_that_is_away(tmp_path: Path, quick: None) -> None:
    """And for one that stays away, a while; a fault of the question is raised at once."""
    client = FlakyClient(FakeStore(), iter(["before", "after", "ok"]))
    with outbox(study_store(client), "small", "7", tmp_path, print) as opened:
        assert opened.read(lambda client: client.search_runs(["7"])) == []
        with pytest.raises(StoreError, match="not found"):
            opened.read(lambda client: client.get_run("none"))
        client.fates = always("before")
        with pytest.raises(StoreAway, match="does not answer"):
            opened.read(lambda client: client.search_runs(["7"]))
        client.fates = iter(())


def test_a_refused_write_of_the_thread_stops_the_study_at_its_next_write(
    tmp_path: Path, quick: None
) -> None:
    """Numbers that cannot be written are not computed further."""
    client = FlakyClient(FakeStore(), iter(["ok", "before", "refused"]))
    with (
        pytest.raises(StoreError, match="refused write 1"),
        outbox(study_store(client), "small", "7", tmp_path, print) as opened,
    ):
        run_id = opened.create_run("7", "first", {})
        log(opened.writer, run_id, tags={"t": "u"})
        while True:
            log(opened.writer, run_id, tags={"t": "u"})
            time.sleep(0.01)
    assert waiting_note(URI, "small", tmp_path)


def test_a_request_that_arrives_late_makes_no_second_run(tmp_path: Path, quick: None) -> None:
    """What was given up may still reach the store after its repetition."""
    store = FakeStore()
    client = FlakyClient(store, iter(()))
    with outbox(study_store(client), "small", "7", tmp_path, print) as opened:
        run_id = opened.create_run("7", "first", {})
        client.create_run("7", 0, dict(store.runs[run_id].tags), "first")
        assert len(store.runs) == 2
    assert list(store.runs) == [run_id]


def test_a_late_run_of_a_dead_driver_is_dropped_when_dead_runs_are_closed() -> None:
    """Of two runs with one key, the one that was written to stays."""
    store = FakeStore()
    client: Any = FlakyClient(store, iter(()))
    tags = {Tag.RUN_KEY: "abc"}
    late, own = (client.create_run("7", 0, tags, "first").info.run_id for _ in range(2))
    log(client, own, params={"p": 1})
    close_dead_runs(client, "7")
    assert list(store.runs) == [own]
    assert store.runs[own].tags[Tag.STATE] == "INTERRUPTED"
    assert late != own


def test_another_experiments_queue_is_an_error(tmp_path: Path, quick: None) -> None:
    """Nothing is sent to the wrong place."""
    down = study_store(FlakyClient(FakeStore(), always("before")))
    with pytest.raises(StoreAway), outbox(down, "small", "7", tmp_path, print) as opened:
        opened.create_run("7", "first", {})
    store = FakeStore()
    with (
        pytest.raises(StoreError, match=r"holds writes for experiment 7 .* this is experiment 8"),
        outbox(study_store(FlakyClient(store, iter(()))), "small", "8", tmp_path, print),
    ):
        pass
    assert not store.runs


def test_what_a_replaced_driver_left_is_set_aside(tmp_path: Path, quick: None) -> None:
    """Another driver has run it again, so that it would be there twice; the last one's is sent."""
    store, lines = FakeStore(), list[str]()
    for own, before in (("first", ()), ("second", ("other",))):
        down = study_store(FlakyClient(store, always("before")))
        drivers = Drivers(own, before)
        with (
            pytest.raises(StoreAway),
            outbox(down, "small", "7", tmp_path, lines.append, drivers) as opened,
        ):
            opened.create_run("7", own, {})
    file = tmp_path / FOLDER / FILE
    assert f"left out, and kept in {file}" in "".join(lines)
    up = study_store(FlakyClient(store, iter(())))
    with outbox(up, "small", "7", tmp_path, lines.append, Drivers("third", ("second", "other"))):
        assert [run.name for run in store.runs.values()] == ["second"]
    assert waiting_note(URI, "small", tmp_path) is None
    with closing(sqlite3.connect(file)) as base:
        assert base.execute("SELECT driver, left_out FROM writes").fetchall() == [("first", 1)]


def test_what_is_refused_can_be_left_out_by_the_command_that_is_shown(
    tmp_path: Path, quick: None
) -> None:
    """The study goes on without it; it is kept, and so are the writes of other studies."""
    for study in ("small", "other"):
        down = study_store(FlakyClient(FakeStore(), always("before")))
        with pytest.raises(StoreAway), outbox(down, study, "7", tmp_path, print) as opened:
            opened.create_run("7", "first", {})
    store = FakeStore()
    with (
        pytest.raises(StoreError) as raised,
        outbox(study_store(FlakyClient(store, always("refused"))), "small", "7", tmp_path, print),
    ):
        pass
    shown = re.search('sqlite3 (.*) "(.*)"', str(raised.value))
    assert shown
    with closing(sqlite3.connect(shown[1])) as base, base:
        base.execute(shown[2])
    for study, runs in (("small", 0), ("other", 1)):
        with outbox(study_store(FlakyClient(store, iter(()))), study, "7", tmp_path, print):
            assert len(store.runs) == runs
    with closing(sqlite3.connect(shown[1])) as base:
        assert base.execute("SELECT study, left_out FROM writes").fetchall() == [("small", 1)]


def test_a_damaged_file_stops_no_plan(tmp_path: Path) -> None:
    """It is named, as a run would be refused for it."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / FILE).write_bytes(b"no database " * 100)
    assert "is damaged" in str(waiting_note(URI, "small", tmp_path))


def test_what_waits_outlives_drivers_that_only_looked(tmp_path: Path, quick: None) -> None:
    """One was refused on another machine, one here; the writes are sent by who runs the study."""
    store = FakeStore()
    down = study_store(FlakyClient(store, always("before")))
    with (
        pytest.raises(StoreAway),
        outbox(down, "small", "7", tmp_path, print, Drivers("first")) as opened,
    ):
        opened.create_run("7", "first", {})
    here = Drivers("second", ("elsewhere", "first"))
    with (
        pytest.raises(StoreAway),
        outbox(down, "small", "7", tmp_path, print, here),
    ):
        pass
    up = study_store(FlakyClient(store, iter(())))
    last = Drivers("third", ("second", "elsewhere", "first"))
    with outbox(up, "small", "7", tmp_path, print, last):
        assert [run.name for run in store.runs.values()] == ["first"]
    assert waiting_note(URI, "small", tmp_path) is None
