"""Writes while the store is away, each kind of them lost before and after it took effect."""

import errno
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.store.batches import log
from harness.store.cleanup import close_dead_runs
from harness.store.errors import StoreAway, StoreError
from harness.store.lock.lease import StudyLost
from harness.store.open import Store
from harness.store.outbox import announcements
from harness.store.outbox import calls as calls_module
from harness.store.outbox import delivery as courier_module
from harness.store.outbox.calls import FILE_TRIES, Sender
from harness.store.outbox.client import FILE, FOLDER, Outbox, outbox, waiting_note
from harness.store.outbox.journal import Drivers, Head, Journal
from reports.contract import Tag
from ship.trial.trained import MOST_TENSORS
from tests.harness.flaky import URI, FakeStore, FlakyClient


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


LARGEST = bytes(MOST_TENSORS)  # what a run may keep of a seed: it has to fit a row of the file


@pytest.mark.parametrize(
    ("fates", "waits"),
    [
        (["before"], True),  # the store does not know the run either
        (["ok", *["before"] * 9], True),
        (["ok", *["after"] * 9], True),
        (["ok", *["before"] * 3], True),
        (["ok", *["before"] * 2], False),  # it has answered the second question
        (["ok", *["before", "ok"] * (FILE_TRIES - 1)], False),
    ],
)
def test_a_store_that_is_away_loses_no_file(tmp_path: Path, fates: list[str], waits: bool) -> None:
    """Whether it answers the question behind a try, or not for some time."""
    store = FakeStore()
    post = Post(tmp_path, store, *fates)
    run_id = post.box.create_run("7", "first", {})
    post.box.log_file(run_id, "trained/seed_2147483647.safetensors", LARGEST)
    post.box.log_files(run_id, "report", {"a.md": b"a", "b.png": b"\x89"})
    assert bool(post.box.waiting) is waits
    post.deliver_all()
    assert store.runs[post.box.stored_id(run_id)].files == {
        "trained/seed_2147483647.safetensors": LARGEST,
        "report/a.md": b"a",
        "report/b.png": b"\x89",
    }


def test_a_refused_write_is_raised_and_does_not_wait(tmp_path: Path) -> None:
    """A 4xx is a fault: sending it again would not help."""
    post = Post(tmp_path, FakeStore(), "ok", *["refused"] * 3)
    run_id = post.box.create_run("7", "first", {"k": "v"})
    writes: list[Callable[[], Any]] = [
        lambda: log(post.box, run_id, tags={"t": "u"}),
        lambda: post.box.delete_tag(run_id, "k"),
    ]
    for write in writes:
        with pytest.raises(Exception, match="no such thing"):
            write()
        assert not post.box.waiting


def test_a_batch_survives_the_file_to_the_last_digit(tmp_path: Path) -> None:
    """Metrics that are not finite, too."""
    numbers = {"third": 1 / 3, "big": 1e300, "inf": float("inf"), "nan": float("nan")}
    store = FakeStore()
    first = Post(tmp_path, store, "ok", "before")
    run_id = first.box.create_run("7", "first", {})
    log(first.box, run_id, metrics=numbers, step=4, timestamp=9, params={"p": "ä\n\0"})
    Post(tmp_path, store).deliver_all()
    points = {key: value for key, value, *_ in store.runs[run_id].points}
    assert repr(points) == repr(numbers)
    assert store.runs[run_id].params == {"p": "ä\n\\0"}  # PostgreSQL takes no NUL
    assert store.runs[run_id].points[0][2:] == (9, 4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A courier that is soon out of patience."""
    monkeypatch.setattr(courier_module, "PATIENCE", 1.0)
    monkeypatch.setattr(courier_module, "HURRIED", 0.1)
    monkeypatch.setattr(courier_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(announcements, "UNSEEN", 0.0)


def always(fate: str) -> Iterator[str]:
    """The same for ever."""
    while True:
        yield fate


@contextmanager
def driving(
    folder: Path,
    client: FlakyClient,
    say: Callable[[str], Any] = print,
    own: str = "",
    before: tuple[str, ...] = (),
    study: str = "small",
    experiment: str = "7",
) -> Iterator[Store]:
    """The store as a driver of a study has it open; own and before: tokens of drivers."""
    opened = Store(URI, client, None)  # type: ignore[arg-type]
    with outbox(opened, study, experiment, folder, say, Drivers(own, before)) as found:
        yield found


def client_of(store: FakeStore, *fates: str) -> FlakyClient:
    """A client of a store that is there, after some fates."""
    return FlakyClient(store, iter(fates))


def left_by_a_driver(
    folder: Path, own: str = "", before: tuple[str, ...] = (), write: bool = True, **keys: Any
) -> None:
    """Leave the write of a run of the driver's name; the store is away all the time."""
    down = FlakyClient(FakeStore(), always("before"))
    with pytest.raises(StoreAway), driving(folder, down, own=own, before=before, **keys) as opened:
        if write:
            opened.create_run("7", own, {})


def test_a_thread_sends_what_waits_and_says_so(tmp_path: Path) -> None:
    """One line when the store is gone, one when it is back."""
    store, lines = FakeStore(), list[str]()
    with driving(tmp_path, client_of(store, "ok", *["before"] * 6), lines.append) as opened:
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


def test_a_store_that_stays_away_ends_the_wait(tmp_path: Path) -> None:
    """One line that counts the writes, names the file and shows no password; the next run sends."""
    store, lines = FakeStore(), list[str]()
    down = FlakyClient(store, always("before"))
    with pytest.raises(StoreAway) as raised, driving(tmp_path, down, lines.append) as opened:
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
    with driving(tmp_path, client_of(store), lines.append):
        assert [run.params for run in store.runs.values()] == [{"p": "1"}]
    assert waiting_note(URI, "small", tmp_path) is None
    assert any(line.startswith("2 writes of an earlier run wait in") for line in lines)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (KeyboardInterrupt(), "1 write wait"),
        # what waits is not sent: nobody is told that the same command does it
        (StudyLost("it is another's"), "left out, as another driver has the study: 1 writes in "),
    ],
)
def test_a_study_that_is_ended_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, said: str
) -> None:
    """The line about what waits is the last, and what ended the study goes on its way."""
    monkeypatch.setattr(courier_module, "PATIENCE", 600.0)
    lines: list[str] = []
    down = FlakyClient(FakeStore(), always("before"))
    with pytest.raises(type(end)), driving(tmp_path, down, lines.append) as opened:
        opened.create_run("7", "first", {})
        opened.hurry()
        with pytest.raises(StoreAway):
            opened.read(lambda client: None)
        raise end
    assert said in lines[-1]
    assert ("run the same command" in "".join(lines)) == isinstance(end, KeyboardInterrupt)


def test_a_read_waits_for_a_store_that_is_away(tmp_path: Path) -> None:
    """And for one that stays away, a while; a fault of the question is raised at once."""
    client = client_of(FakeStore(), "before", "after", "ok")
    with driving(tmp_path, client) as opened:
        assert opened.read(lambda client: client.search_runs(["7"])) == []
        with pytest.raises(StoreError, match="not found"):
            opened.read(lambda client: client.get_run("none"))
        client.fates = always("before")
        with pytest.raises(StoreAway, match="does not answer"):
            opened.read(lambda client: client.search_runs(["7"]))
        client.fates = iter(())


def test_a_refused_write_of_the_thread_stops_the_study_at_its_next_write(tmp_path: Path) -> None:
    """Numbers that cannot be written are not computed further; the refused one stays on disk."""
    client = client_of(FakeStore(), "ok", "before", "refused")
    with (
        pytest.raises(StoreError, match=r"refused write 1 of .*queue.sqlite3: no such") as raised,
        driving(tmp_path, client) as opened,
    ):
        run_id = opened.create_run("7", "first", {})
        log(opened.writer, run_id, tags={"t": "u"})
        while True:
            log(opened.writer, run_id, tags={"t": "u"})
            time.sleep(0.01)
    assert "geheim" not in str(raised.value)
    assert waiting_note(URI, "small", tmp_path)


def test_a_request_that_arrives_late_makes_no_second_run(tmp_path: Path) -> None:
    """What was given up may still reach the store after its repetition.

    Of two runs with one key, the one that was written to stays, also where the driver has died.
    """
    store = FakeStore()
    client: Any = client_of(store)
    with driving(tmp_path, client) as opened:
        run_id = opened.create_run("7", "first", {})
        client.create_run("7", 0, dict(store.runs[run_id].tags), "first")
        assert len(store.runs) == 2
    assert list(store.runs) == [run_id]
    tags = {Tag.RUN_KEY: "abc"}
    _, own = (client.create_run("8", 0, tags, "first").info.run_id for _ in range(2))
    log(client, own, params={"p": 1})
    close_dead_runs(client, "8")
    assert store.runs[own].tags[Tag.STATE] == "INTERRUPTED" and len(store.runs) == 2


def test_another_experiments_queue_is_an_error(tmp_path: Path) -> None:
    """Nothing is sent to the wrong place."""
    left_by_a_driver(tmp_path)
    store = FakeStore()
    with (
        pytest.raises(StoreError, match=r"holds writes for experiment 7 .* this is experiment 8"),
        driving(tmp_path, client_of(store), experiment="8"),
    ):
        pass
    assert not store.runs


def test_what_a_replaced_driver_left_is_set_aside(tmp_path: Path) -> None:
    """Another driver has run it again, so that it would be there twice; the last one's is sent."""
    store, lines = FakeStore(), list[str]()
    left_by_a_driver(tmp_path, "first")
    left_by_a_driver(tmp_path, "second", ("other",), say=lines.append)
    file = tmp_path / FOLDER / FILE
    assert f"left out, and kept in {file}" in "".join(lines)
    with driving(tmp_path, client_of(store), own="third", before=("second", "other")):
        assert [run.name for run in store.runs.values()] == ["second"]
    assert waiting_note(URI, "small", tmp_path) is None
    with closing(sqlite3.connect(file)) as base:
        assert base.execute("SELECT driver, left_out FROM writes").fetchall() == [("first", 1)]


def test_what_is_refused_can_be_left_out_by_the_command_that_is_shown(tmp_path: Path) -> None:
    """The study goes on without it; it is kept, and so are the writes of other studies."""
    for study in ("small", "other"):
        left_by_a_driver(tmp_path, study=study)
    store = FakeStore()
    refusing = FlakyClient(store, always("refused"))
    with pytest.raises(StoreError) as raised, driving(tmp_path, refusing):
        pass
    shown = re.search('sqlite3 (.*) "(.*)"', str(raised.value))
    assert shown
    with closing(sqlite3.connect(shown[1])) as base, base:
        base.execute(shown[2])
    for study, runs in (("small", 0), ("other", 1)):
        with driving(tmp_path, client_of(store), study=study):
            assert len(store.runs) == runs
    with closing(sqlite3.connect(shown[1])) as base:
        assert base.execute("SELECT study, left_out FROM writes").fetchall() == [("small", 1)]


def test_a_damaged_file_stops_no_plan(tmp_path: Path) -> None:
    """It is named, as a run would be refused for it."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / FILE).write_bytes(b"no database " * 100)
    assert "is damaged" in str(waiting_note(URI, "small", tmp_path))


def test_what_waits_outlives_drivers_that_only_looked(tmp_path: Path) -> None:
    """One was refused on another machine, one here; the writes are sent by who runs the study."""
    store = FakeStore()
    left_by_a_driver(tmp_path, "first")
    left_by_a_driver(tmp_path, "second", ("elsewhere", "first"), write=False)
    last = {"own": "third", "before": ("second", "elsewhere", "first")}
    with driving(tmp_path, client_of(store), **last):  # type: ignore[arg-type]
        assert [run.name for run in store.runs.values()] == ["first"]
    assert waiting_note(URI, "small", tmp_path) is None
