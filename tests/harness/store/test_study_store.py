"""The store of a running study, which waits for the server and makes each write exactly once."""

import errno
import itertools
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store import State, Tag
from harness.store import study_store as module
from harness.store.errors import StoreError, StoreUnavailable
from harness.store.lease import Timing
from harness.store.run_update import Point, RunUpdate, close_dead_runs
from harness.store.study_store import LEFT_OPEN, StudyStore, open_and_lock_study
from tests.harness.flaky import FakeStore, FlakyClient, make_study_store


@pytest.fixture(autouse=True, scope="module")
def no_pauses() -> Any:
    """Remove the pauses between tries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_PAUSE", 0.0)
        patch.setattr("harness.store.errors.FIRST_PAUSE", 0.0)
        yield


def make_writes(writes: list[tuple[str, int]], outcomes: list[str]) -> list[tuple[Any, ...]]:
    """Make some writes and return the store's content.

    Args:
        writes: Kind of each write, and a number that selects the run and the content.
        outcomes: What happens to each request: `ok`, or lost `before` or `after` it is processed.
    """
    fake = FakeStore()
    store, runs = make_study_store(fake, *outcomes), list[str]()
    for tick, (kind, choice) in enumerate(writes):
        if kind == "create" or not runs:
            runs.append(store.create_run("7", f"{len(runs):03}", {"k": "v"}))
            continue
        points = [Point(f"m{i}", float(tick), 0, tick) for i in range(choice)]
        changes: dict[str, dict[str, Any]] = {
            "points": {"metrics": points, "params": {f"p{tick}": str(tick)}},
            "tag": {"tags": {"k": str(tick)}},
            "file": {"files": {f"a/{tick}": bytes([tick])}},
            "state": {"tags": {"why": str(tick)}, "state": list(State)[choice]},
        }
        store.write(RunUpdate(run_id=runs[choice % len(runs)], **changes[kind]))
    return fake.describe()


WRITES = st.tuples(
    st.sampled_from(["create", "points", "tag", "file", "state"]), st.integers(0, len(State) - 1)
)


@given(st.lists(WRITES, max_size=30), st.lists(st.sampled_from(["ok", "before", "after"])))
def test_lost_requests_and_answers_change_nothing(
    writes: list[tuple[str, int]], outcomes: list[str]
) -> None:
    """No run, point, tag or file is missing, repeated or out of order."""
    assert make_writes(writes, outcomes) == make_writes(writes, [])


def test_text_that_a_database_refuses_is_escaped() -> None:
    """PostgreSQL refuses NUL, and a file name may contain a lone surrogate."""
    fake = FakeStore()
    store = make_study_store(fake)
    run_id = store.create_run("7", "first", {"t": "a\0"})
    store.write(RunUpdate(run_id=run_id, params={"p": "ä\n\0", "q": "b\udcff.jpg"}))
    (run,) = fake.runs.values()
    assert run.tags["t"] == "a\\0"
    assert run.params == {"p": "ä\n\\0", "q": "b?.jpg"}


def test_wait_is_announced_once() -> None:
    """There is one line when the store stops answering, and one when it answers again."""
    lines: list[str] = []
    store = make_study_store(FakeStore(), *["before"] * 6, lines=lines)
    store.write(RunUpdate(run_id=store.create_run("7", "first", {})))
    assert lines == [
        "http://***@server:5000: the MLflow store does not answer (Connection refused): retrying "
        "for up to 10.0 min; running trials pause when they next report results",
        "the MLflow store answers again",
    ]


def test_read_waits_for_the_store() -> None:
    """A refused read is not retried."""
    store = make_study_store(FakeStore(), "before", "after")
    assert store.read(lambda client: client.search_runs(["7"])) == []
    with pytest.raises(StoreError, match="not found"):
        store.read(lambda client: client.get_run("none"))


def make_unanswering_store(**options: Any) -> tuple[StudyStore, list[str], str]:
    """Return a store that does not answer, its printed lines, and the ID of a run."""
    lines: list[str] = []
    store = make_study_store(FakeStore(), lines=lines, **options)
    run_id = store.create_run("7", "first", {})
    store.client.outcomes = itertools.repeat("before")  # type: ignore[attr-defined]
    return store, lines, run_id


def test_store_timeout_ends_the_study() -> None:
    """The line has no password. Later writes are tried once, until the store answers."""
    store, lines, run_id = make_unanswering_store(timeout=0.2)
    with pytest.raises(StoreUnavailable) as raised:
        store.write(RunUpdate(run_id=run_id, state=State.COMPLETE))
    assert str(raised.value) == (
        "http://***@server:5000: the MLflow store does not answer (Connection refused): gave up "
        "after <1 s. Run the same command to resume"
    )
    assert len(lines) == 1
    calls = len(store.client.calls)  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.write(RunUpdate(run_id=run_id, state=State.INTERRUPTED))
    assert len(store.client.calls) - calls == 2  # type: ignore[attr-defined]
    store.client.outcomes = iter(["before"])  # type: ignore[attr-defined]
    store.timeout = 600.0
    store.write(RunUpdate(run_id=run_id, state=State.INTERRUPTED))


def test_stopped_study_does_not_wait() -> None:
    """An interrupt ends the wait before the timeout."""
    began = time.monotonic()
    store, lines, run_id = make_unanswering_store(is_stopped=lambda: time.monotonic() - began > 0.2)
    with pytest.raises(StoreUnavailable):
        store.write(RunUpdate(run_id=run_id, state=State.COMPLETE))
    assert time.monotonic() - began < 10
    assert len(lines) == 1


def test_runs_that_nothing_closed_are_closed_at_the_end(tmp_path: Path) -> None:
    """The reason is not that their driver died: it closes them itself."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with open_and_lock_study(
        uri,
        "small",
        Timing(claim_pause=0.0),
        timeout=0.0,
        fail=Mock(),
        is_stopped=Mock(),
        print_line=Mock(),
    ) as store:
        run_id = store.create_run(store.experiment_id, "trial", {Tag.KIND: "trial"})
    tags = store.client.get_run(run_id).data.tags
    assert (tags[Tag.STATE], tags[Tag.REASON]) == ("INTERRUPTED", LEFT_OPEN)


@pytest.mark.parametrize("changes", [{"files": {"x": b"content"}}, {"tags": {"t": "u"}}])
def test_refused_write_is_not_retried(changes: dict[str, Any]) -> None:
    """Another request would get the same 4xx answer."""
    lines: list[str] = []
    store = make_study_store(FakeStore(), "ok", "refused", lines=lines)
    run_id = store.create_run("7", "first", {})
    with pytest.raises(StoreError, match="no such thing"):
        store.write(RunUpdate(run_id=run_id, **changes))
    assert not lines


def test_full_local_disk_ends_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes do not wait for space. The next run of the study writes the file."""
    error = OSError(errno.ENOSPC, "No space left on device", "file")
    store = make_study_store(FakeStore())
    run_id = store.create_run("7", "first", {})
    monkeypatch.setattr(store.client, "log_artifact", Mock(side_effect=error))
    with pytest.raises(StoreError, match="No space left on device"):
        store.write(RunUpdate(run_id=run_id, files={"x": b"content"}))


def test_late_request_creates_no_second_run() -> None:
    """If two runs have the same key, the empty one is deleted, also after the driver has died."""
    fake = FakeStore()
    for params in ({}, {"p": "1"}):
        store = make_study_store(fake)
        run_id = store.create_run("7", "first", {})
        store.write(RunUpdate(run_id=run_id, params=params))
        store.client.create_run("7", 0, dict(fake.runs[run_id].tags), "first")
        if not params:
            store.write(RunUpdate(run_id=run_id, state=State.COMPLETE))
        assert len(fake.runs) == 2
        store.close_dead_runs()
        assert list(fake.runs) == [run_id]
        state = "INTERRUPTED" if params else "COMPLETE"
        assert fake.runs.pop(run_id).tags[Tag.STATE] == state


def test_parent_run_with_a_description_is_kept() -> None:
    """It has tags but no metrics. Parent runs with the same key and no description are deleted."""
    fake = FakeStore()
    client: Any = FlakyClient(fake, iter(()))
    for description in ({}, {"ship.study": "{}"}, {}):
        client.create_run("7", 0, {Tag.RUN_KEY: "k", Tag.KIND: "study", **description}, "small")
    close_dead_runs(client, "7")
    assert list(fake.runs) == ["run-1"]
