"""Signals at the edges of a study, where no trial runs: it ends in order all the same."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from harness.planning.changes import StudyChanged
from harness.recording.study_run import StudyRecord
from harness.store.errors import StoreError
from harness.study import execution
from reports.contract import Tag
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.study.drivers import Driver, wait_for

SMALL = {"space": {"generator.n_ctx": [4]}, "seeds": 1}


@pytest.mark.parametrize("place", ["place_runs", "begin", "end"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_beside_the_studys_own_writes_leaves_nothing_running(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str, after: bool
) -> None:
    """Wherever it strikes, the outcome is an interrupt, and the next run completes the study."""
    original = getattr(StudyRecord, place)

    def interrupted(self: StudyRecord, *given: Any) -> Any:
        monkeypatch.setattr(StudyRecord, place, original)  # once
        if not after:
            os.kill(os.getpid(), signal.SIGINT)
        found = original(self, *given)
        os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(StudyRecord, place, interrupted)
    outcome = bench.run(make_study(**SMALL))
    assert outcome.interrupted
    assert {run.info.status for run in bench.runs()} <= {"KILLED", "FINISHED"}
    bench.check_invariants()
    assert bench.run(make_study(**SMALL)).complete
    assert bench.parent().info.status == "FINISHED"
    bench.check_invariants()


def test_rays_own_exit_is_an_interrupt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it starts, its handler turns SIGTERM into SystemExit."""

    def leave(*_: Any) -> None:
        raise SystemExit(15)

    monkeypatch.setattr(execution.Execution, "in_process", leave)
    outcome = bench.run(make_study(**SMALL))
    assert outcome.interrupted
    assert bench.parent().info.status == "KILLED"


@pytest.mark.faults
def test_sigterm_between_the_start_of_ray_and_the_first_trial(
    bench: Bench, drive: Callable[..., Driver]
) -> None:
    """Ray has put handlers of its own in ours' place by then."""
    driver = drive(0.0, fault={"terminate": "harness.tuning.share"})
    code, output = driver.end()
    assert code == 130, output
    assert "interrupted=True" in output and "Traceback" not in output
    wait_for(lambda: not driver.survivors(), 20)
    assert bench.parent().info.status == "KILLED"
    bench.check_invariants()


def test_a_driver_that_is_refused_outdates_nobodys_writes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ran something last is known, whoever only looked since: see outbox/journal.py."""

    def tokens() -> list[str]:
        store = bench.store()
        found = store.client.get_experiment(str(store.experiment("small")))
        return str(found.tags[Tag.LAST_DRIVER]).split()

    def refuse(*_: Any) -> None:
        raise StoreError("found before anything runs")

    bench.run(make_study(**SMALL))
    (first,) = tokens()
    for count in (2, 3):
        with pytest.raises(StudyChanged):
            bench.run(make_study(**SMALL, shots=4))
        assert len(tokens()) == count and tokens()[-1] == first
    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr("harness.study.run.preflight", refuse)
        bench.run(make_study(**SMALL | {"seeds": 2}))
    assert len(tokens()) == 4 and tokens()[-1] == first
    bench.run(make_study(**SMALL))
    assert len(tokens()) == 1
