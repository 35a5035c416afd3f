"""Successive halving without Ray: which trial is stopped, and why."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from harness.messages import EVALUATIONS, OBJECTIVE
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Work
from harness.tuning.endings import Attempt
from harness.tuning.sweep import StudyScheduler
from tests.harness.fakes import make_study
from tests.harness.tuning.searchers import KL, works


class Trials:
    """Trials by name, each with its work, under successive halving by two."""

    def __init__(self, given: dict[str, Work]) -> None:
        self.attempts = {name: Attempt(work) for name, work in given.items()}
        searcher: Any = SimpleNamespace(attempts=self.attempts)
        asha = {"name": "asha", "reduction_factor": 2}
        self._halving = StudyScheduler(make_study(scheduler=asha), searcher)

    def report(self, name: str, number: int, value: float) -> str:
        """What becomes of a trial after an evaluation."""
        result = {EVALUATIONS: number, OBJECTIVE: value}
        return self._halving.on_trial_result(None, SimpleNamespace(trial_id=name), result)


@pytest.fixture
def found(prints: Fingerprints) -> list[Work]:
    """Eight works of one study."""
    return works(make_study(space=KL), prints)


def test_a_trial_that_lags_behind_is_stopped(found: list[Work]) -> None:
    """At each rung for itself, and with the evaluation and the value for people."""
    trials = Trials(dict(zip("abcd", found, strict=False)))
    assert trials.report("a", 1, 60.0) == TrialScheduler.CONTINUE
    assert trials.report("b", 1, 10.0) == TrialScheduler.STOP
    assert trials.report("c", 1, 70.0) == TrialScheduler.CONTINUE
    assert trials.report("a", 2, 90.0) == TrialScheduler.CONTINUE
    assert trials.report("c", 2, 20.0) == TrialScheduler.STOP
    assert {name: one.stopped for name, one in trials.attempts.items()} == {
        "a": None,
        "b": "asha stopped it at evaluation 1: harmonic_mean 10.00",
        "c": "asha stopped it at evaluation 2: harmonic_mean 20.00",
        "d": None,
    }


def test_a_setting_that_runs_again_is_not_judged_twice(found: list[Work]) -> None:
    """It has passed its rung; those that came since are no reason to stop it there."""
    first, *others = found
    trials = Trials({"a": first, "c": first, **dict(zip("0123456", others, strict=False))})
    assert trials.report("a", 1, 60.0) == TrialScheduler.CONTINUE
    for name, value in (("0", 70.0), ("1", 80.0), ("2", 90.0)):
        assert trials.report(name, 1, value) == TrialScheduler.CONTINUE
    assert trials.report("3", 1, 60.0) == TrialScheduler.STOP
    assert trials.report("c", 1, 60.0) == TrialScheduler.CONTINUE
