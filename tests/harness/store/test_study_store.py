"""Writes while the store is away, each kind of them lost before and after it took effect."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.store import State, Tag, errors
from harness.store import study_store as module
from harness.store.changes import Changes, Point, close_dead_runs
from harness.store.errors import StoreAway, StoreError
from harness.store.lease import StudyLost
from harness.store.study_store import Pending, StudyStore, waiting_file
from ship.trial.trained import MOST_TENSORS
from tests.harness.flaky import URI, FakeStore, FlakyClient, Post


def test_a_refused_file_is_a_refused_write(tmp_path: Path) -> None:
    """At once, and where it had waited."""
    store = FakeStore()
    post = Post(tmp_path, store, "ok", "refused", "before")
    run_id = post.made_run("first")
    with pytest.raises(StoreError, match="no such thing"):
        post.store.write(Changes(run=run_id, files={"one": b"content"}))
    post.store.write(Changes(run=run_id, files={"two": b"content"}))
    assert post.pending.waiting
    post.deliver_all()
    assert store.runs[run_id].files == {"two": b"content"}


def test_a_full_disk_of_this_machine_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study ends there, so that the next run, with space, has the file."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "file")

    post = Post(tmp_path, FakeStore())
    run_id = post.made_run("first")
    monkeypatch.setattr(post.client, "log_artifact", full)
    with pytest.raises(StoreError, match="No space left on device"):
        post.store.write(Changes(run=run_id, files={"one": b"content"}))
    assert not post.pending.waiting


LARGEST = bytes(MOST_TENSORS)  # what a run may keep of a seed: it has to fit a row of the file


@pytest.mark.parametrize(
    "fates",
    [
        ["before"],  # the store does not know the run either
        ["ok", *["before"] * 9],
        ["ok", *["after"] * 9],
        ["ok", "ok", *["before", "ok"] * 9],  # every other request
    ],
)
def test_a_store_that_is_away_loses_no_file(tmp_path: Path, fates: list[str]) -> None:
    """However often the file's own request fails, and nothing is written before it."""
    store = FakeStore()
    post = Post(tmp_path, store, *fates)
    run = post.new_run()
    seed = "trained/seed_2147483647.safetensors"
    post.store.write(Changes(run=run, files={seed: LARGEST, "report/a.md": b"a"}))
    assert post.pending.waiting
    post.store.write(Changes(run=run, state=State.COMPLETE))
    assert not any(Tag.STATE in kept.tags for kept in store.runs.values())
    post.deliver_all()
    assert store.runs[post.store.made[run]].files == {seed: LARGEST, "report/a.md": b"a"}


def test_a_refused_write_is_raised_and_does_not_wait(tmp_path: Path) -> None:
    """A 4xx is a fault: sending it again would not help."""
    post = Post(tmp_path, FakeStore(), "ok", "refused")
    run = post.new_run()
    with pytest.raises(StoreError, match="no such thing"):
        post.store.write(Changes(run=run, tags={"t": "u"}))
    assert not post.pending.waiting


def test_a_batch_survives_the_file_to_the_last_digit(tmp_path: Path) -> None:
    """Metrics that are not finite, too, and half a character, of a file's name say."""
    numbers = {"third": 1 / 3, "big": 1e300, "inf": float("inf"), "nan": float("nan")}
    store = FakeStore()
    first = Post(tmp_path, store, "ok", "before")
    run_id = first.made_run("first")
    points = [Point(name, value, 9, 4) for name, value in numbers.items()]
    texts = {"p": "ä\n\0", "q": "b\udcff.jpg"}
    first.store.write(Changes(run=run_id, metrics=points, params=texts))
    Post(tmp_path, store).deliver_all()
    assert repr(store.runs[run_id].points) == repr([tuple(point) for point in points])
    assert store.runs[run_id].params == {"p": "ä\n\\0", "q": "b?.jpg"}  # PostgreSQL takes no NUL


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that is soon out of patience."""
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(module, "HURRIED", 0.1)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(errors, "FIRST_PAUSE", 0.0)


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
    last: str = "",
    study: str = "small",
) -> Iterator[StudyStore]:
    """The store as a driver of a study has it open; own and last: tokens of drivers."""
    files = [waiting_file(folder, study, one) for one in (last, own)]
    found = StudyStore(URI, client, "7", Pending(files[0]), say)  # type: ignore[arg-type]
    with found.session(own, files[1]):
        yield found


def client_of(store: FakeStore, *fates: str) -> FlakyClient:
    """A client of a store that is there, after some fates."""
    return FlakyClient(store, iter(fates))


def first_run(name: str = "first") -> Changes:
    """Begin a run."""
    return Changes.of_new_run("7", name)


def left_by_a_driver(folder: Path, own: str = "", last: str = "", **keys: Any) -> None:
    """Leave the write of a run of the driver's name; the store is away all the time."""
    down = FlakyClient(FakeStore(), always("before"))
    with pytest.raises(StoreAway), driving(folder, down, own=own, last=last, **keys) as opened:
        opened.write(first_run(own or "first"))


def test_what_waits_is_sent_and_said(tmp_path: Path) -> None:
    """One line when the store is gone, one when it is back."""
    store, lines = FakeStore(), list[str]()
    with driving(tmp_path, client_of(store, "ok", *["before"] * 6), lines.append) as opened:
        begun = first_run()
        opened.write(begun)
        for step in range(20):
            opened.write(Changes(run=begun.run, metrics=[Point("m", 1.0, 0, step)]))
        run_id = opened.made[begun.run]
        assert opened.read(lambda client: len(client.get_run(run_id).data.tags)) == 1
    assert [point[3] for point in store.runs[run_id].points] == list(range(20))
    gone, *waits, back = lines
    assert "does not answer (Connection refused): the study goes on, its writes wait in" in gone
    assert back == "the MLflow store answers again: what waited was sent"
    assert len(waits) <= 1
    assert not list((tmp_path / "outbox").iterdir())


def test_a_store_that_stays_away_ends_the_wait(tmp_path: Path) -> None:
    """One line names the file and shows no password; the next run sends what waits."""
    store, lines = FakeStore(), list[str]()
    down = FlakyClient(store, always("before"))
    with pytest.raises(StoreAway) as raised, driving(tmp_path, down, lines.append) as opened:
        begun = first_run()
        opened.write(begun)
        opened.write(Changes(run=begun.run, params={"p": "1"}))
    (file,) = (tmp_path / "outbox").iterdir()
    assert str(raised.value) == (
        f"http://***@server:5000: the MLflow store does not answer (Connection refused); writes "
        f"wait in {file}; run the same command again when it does"
    )
    assert any(line == "waiting up to 1 s for the MLflow store" for line in lines)
    assert b"geheim" not in "".join(lines).encode() + file.read_bytes()
    with driving(tmp_path, client_of(store), lines.append):
        assert [run.params for run in store.runs.values()] == [{"p": "1"}]
    assert not file.exists()
    assert any(line.startswith("2 writes of an earlier run wait in") for line in lines)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (KeyboardInterrupt(), "; run the same command again"),
        # what waits is not sent: nobody is told that the same command does it
        (StudyLost("it is another's"), "waiting up to 0 s for the MLflow store"),
    ],
)
def test_a_study_that_is_ended_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, said: str
) -> None:
    """The line about what waits is the last, and what ended the study goes on its way."""
    monkeypatch.setattr(module, "PATIENCE", 600.0)
    lines: list[str] = []
    down = FlakyClient(FakeStore(), always("before"))
    with pytest.raises(type(end)), driving(tmp_path, down, lines.append) as opened:
        opened.write(first_run())
        opened.hurry()
        with pytest.raises(StoreAway):
            opened.read(lambda client: None)
        raise end
    assert said in lines[-1]


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
        pytest.raises(StoreError, match=r"failed: no such thing; .* waits in .*jsonl") as raised,
        driving(tmp_path, client) as opened,
    ):
        begun = first_run()
        opened.write(begun)
        while True:
            opened.write(Changes(run=begun.run, tags={"t": "u"}))
            time.sleep(0.01)
    assert "geheim" not in str(raised.value)
    assert list((tmp_path / "outbox").iterdir())


def test_a_request_that_arrives_late_makes_no_second_run(tmp_path: Path) -> None:
    """What was given up may still reach the store after its repetition.

    Of two runs with one key, the one that was written to stays, also where the driver has died.
    """
    store = FakeStore()
    client: Any = client_of(store)
    for run_params in ({}, {"p": "1"}):
        with driving(tmp_path, client) as opened:
            begun = Changes.of_new_run("7", "first", params=run_params)
            opened.write(begun)
            run_id = opened.made[begun.run]
            client.create_run("7", 0, dict(store.runs[run_id].tags), "first")
            if not run_params:
                opened.write(Changes(run=begun.run, state=State.COMPLETE))
            assert len(store.runs) == 2
            opened.close_dead_runs()
        assert list(store.runs) == [run_id]
        state = "INTERRUPTED" if run_params else "COMPLETE"
        assert store.runs.pop(run_id).tags[Tag.STATE] == state


def test_what_waits_goes_to_the_run_that_was_written_to(tmp_path: Path) -> None:
    """Not to one that a late request made, which a new process cannot tell from it by its key."""
    for late in range(6):
        store = FakeStore()
        down = FlakyClient(store, iter(["ok", "ok", *["before"] * 3]))
        post = Post(tmp_path / str(late), store)
        post.store.client = down  # type: ignore[assignment]
        run = post.new_run()
        post.store.write(Changes(run=run, params={"p": "1"}))
        post.store.write(Changes(run=run, tags={"t": "u"}))
        own = post.store.made[run]
        twin = FlakyClient(store, iter(())).create_run("7", 0, dict(store.runs[own].tags), "first")
        if late % 2:  # the order in which a store lists them
            store.runs = dict(reversed(store.runs.items()))
        Post(tmp_path / str(late), store).deliver_all()
        assert store.runs[own].tags["t"] == "u"
        assert "t" not in store.runs[twin.info.run_id].tags


def test_of_two_runs_of_a_study_the_one_that_describes_it_stays() -> None:
    """It has no numbers, but tags."""
    store = FakeStore()
    client: Any = client_of(store)
    for more in ({}, {"ship.study": "{}"}, {}):
        client.create_run("7", 0, {Tag.RUN_KEY: "k", Tag.KIND: "study", **more}, "small")
    close_dead_runs(client, "7")
    assert list(store.runs) == ["run-1"]


def test_what_is_out_of_date_is_never_sent(tmp_path: Path) -> None:
    """Another driver has run it again, so that it would be there twice; the last one's is sent.

    That is the last one that has reached the store.
    """
    store = FakeStore()
    left_by_a_driver(tmp_path, "first", last="other")
    left_by_a_driver(tmp_path, "second", last="other")
    with driving(tmp_path, client_of(store), own="third", last="second"):
        assert [run.name for run in store.runs.values()] == ["second"]
    left_by_a_driver(tmp_path, "third", last="second")
    with driving(tmp_path, client_of(store), own="fourth"):
        assert len(store.runs) == 1  # of an experiment that was made anew
    assert len(list((tmp_path / "outbox").iterdir())) == 2


def test_a_driver_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Nothing goes behind what a driver left whose name the store will no longer know."""
    left_by_a_driver(tmp_path, "first", last="other")
    (file,) = (tmp_path / "outbox").iterdir()
    file.write_bytes(file.read_bytes()[:-1])  # it was killed while it wrote
    left_by_a_driver(tmp_path, "second", last="first")
    store = FakeStore()
    with driving(tmp_path, client_of(store), own="third", last="second"):
        assert [run.name for run in store.runs.values()] == ["second"]


def test_a_study_goes_on_without_what_is_refused_once_its_file_is_moved(tmp_path: Path) -> None:
    """As the line says; what other studies wait for is not touched."""
    for study in ("small", "other"):
        left_by_a_driver(tmp_path, study=study)
    store = FakeStore()
    refusing = FlakyClient(store, always("refused"))
    with pytest.raises(StoreError, match="move the file away"), driving(tmp_path, refusing):
        pass
    (file,) = (tmp_path / "outbox").glob("small-*")
    file.rename(tmp_path / "kept")
    for study, runs in (("small", 0), ("other", 1)):
        with driving(tmp_path, client_of(store), study=study):
            assert len(store.runs) == runs
