"""A store's file that is deleted, replaced by rubbish or locked in mid-study."""

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy

from harness.config.study_config import StudyConfig
from harness.store.errors import StoreError
from tests.harness.conftest import Bench
from tests.harness.driver import study
from tests.harness.fakes import sleepy
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import HERE, Driver, wait_for

pytestmark = pytest.mark.faults

Calm = Callable[[StudyConfig], str]
LOCKED_SECONDS = 3.0
# how long MLflow waits for a lock by itself, and how long it does here
MLFLOWS_MILLISECONDS, WAITED_MILLISECONDS = 20000, 300


def run_while(bench: Bench, act: Callable[[Path], object]) -> None:
    """Run the study, and do something to the store's file once the first trial has begun."""
    path = Path(bench.uri.removeprefix("sqlite:///"))

    def later() -> None:
        wait_for(lambda: bool(bench.lines()))
        act(path)

    thread = Thread(target=later)
    thread.start()
    bench.behave = sleepy(0.5)
    try:
        assert bench.run(study()).complete
    finally:
        thread.join()
        bench.behave = None


def test_a_store_that_is_deleted_ends_the_study(
    bench: Bench, calm: Calm, drive: Callable[..., Driver]
) -> None:
    """One line says so; the next command makes a new store, and all of the study in it."""
    with pytest.raises(StoreError, match=r"mlflow\.db was deleted or moved away while it was in"):
        run_while(bench, Path.unlink)
    code, output = drive(0.0, fault=HERE).end()
    assert code == 0, output
    made = Path(bench.uri.removeprefix("sqlite:///"))
    made = made.rename(made.with_name("made.db"))  # this process's MLflow has the old one open
    bench.uri = f"sqlite:///{made}"
    bench.check_invariants()
    assert_same_table(bench.uri, calm(study()))


def test_a_store_that_is_overwritten_ends_the_study(bench: Bench) -> None:
    """One line says so, in the next run, too, which leaves the file as it is."""
    rubbish = random.Random(0).randbytes(100_000)
    with pytest.raises(StoreError, match=r"the MLflow store failed: .*is not a database"):
        run_while(bench, lambda path: path.write_bytes(rubbish))
    with pytest.raises(StoreError, match="cannot use the MLflow store: file is not a database"):
        bench.run(study())
    assert Path(bench.uri.removeprefix("sqlite:///")).read_bytes() == rubbish


def test_a_store_that_is_locked_for_a_while_is_waited_for(
    bench: Bench, calm: Calm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials go on, and what they say waits on disk: no setting runs twice."""
    text = sqlalchemy.sql.text
    waiting = f"busy_timeout = {MLFLOWS_MILLISECONDS}"
    shorter = f"busy_timeout = {WAITED_MILLISECONDS}"
    monkeypatch.setattr(sqlalchemy.sql, "text", lambda said: text(said.replace(waiting, shorter)))

    def lock(path: Path) -> None:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as base:
            base.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCKED_SECONDS)
            base.execute("ROLLBACK")

    run_while(bench, lock)
    assert (bench.cache / "outbox").exists()  # where writes have waited
    bench.check_invariants()
    assert len(bench.lines()) == 8
    assert_same_table(bench.uri, calm(study()))
