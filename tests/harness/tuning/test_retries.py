"""What runs again after a trial went wrong, why its worker died, and when workers are given up."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from harness.errors import ClusterError
from harness.messages import FAILED, failure
from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.ray import Death, death_of, internals
from harness.store import Failure, State
from harness.tuning.monitor import Monitor
from harness.tuning.retries import Attempt
from tests.harness.fakes import make_study, truth
from tests.harness.tuning.searchers import KL, RANGE, done, optuna_trials, searcher_of, works
from tests.told import told

DIED = Death(Failure.WORKER_DIED, "its worker process died")
LOST = Death(Failure.NODE_LOST, "its node was lost")
SHORT = Death(Failure.OUT_OF_MEMORY, "killed by Ray because memory was low")
RAN_OUT = {FAILED: [failure(MemoryError("no more"), (0,), "at stage final, epoch 1")]}


def given(prints: Fingerprints, seeds: int = 1) -> Attempt:
    """A Ray trial."""
    return Attempt(works(make_study(space=KL, seeds=seeds), prints)[0])


def died(one: Attempt, death: Death | None, last: dict[str, Any] | None = None) -> list[Attempt]:
    """End it, by its worker's death or by its last result; what runs again."""
    one.death = death
    return one.end(last or {})


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        # the second death is the trial's own; a lost node in between counts for nothing
        ([LOST, DIED, LOST, DIED], "its worker process died before its first epoch (attempt 4)"),
        # a setting that takes every node with it does not run for ever
        ([LOST] * 6, "its node was lost before its first epoch (attempt 6)"),
        # one seed that Ray kills may be the victim of others
        ([SHORT, SHORT], "killed by Ray because memory was low before its first epoch (attempt 2)"),
    ],
)
def test_workers_may_die_once_and_nodes_be_lost_a_few_times(
    prints: Fingerprints, deaths: list[Death], reason: str
) -> None:
    """The trial runs again as it was; then it has failed, of what it died of last."""
    now = given(prints)
    for death in deaths[:-1]:
        before, (now,) = now, died(now, death)
        assert before.state is State.INTERRUPTED
        assert before.reason.startswith(death.reason) and before.reason.endswith("; retried")
    assert died(now, deaths[-1]) == []
    assert (now.state, now.failure, now.reason) == (State.FAIL, deaths[-1].failure, reason)


@pytest.mark.parametrize(("last", "death"), [(RAN_OUT, None), ({}, SHORT)])
def test_a_setting_that_takes_too_much_memory_runs_in_halves_of_its_seeds(
    prints: Fingerprints, last: dict[str, Any], death: Death | None
) -> None:
    """Once, and not a single seed: what fails again is FAIL."""
    whole = given(prints, seeds=5)
    left = died(whole, death, last)
    assert whole.state is State.INTERRUPTED
    assert whole.reason.endswith("; retried in two halves of its seeds")
    assert [half.work.seeds for half in left] == [(0, 1), (2, 3, 4)]
    assert not any(half.work.may_stop for half in left)
    for one in (left[1], given(prints)):
        assert died(one, None, RAN_OUT) == []
        assert (one.state, one.failure) == (State.FAIL, Failure.OUT_OF_MEMORY)


@pytest.mark.parametrize("bad", ["", "b"])
def test_optuna_is_told_of_a_halved_setting_once(prints: Fingerprints, bad: str) -> None:
    """The mean over all of its seeds; FAIL, whichever half failed: fewer are not what was asked."""
    study = make_study(
        space=RANGE, sampler="random", n_trials=1, seeds=4, max_concurrent_trials=None
    )
    searcher = searcher_of(study, prints)
    searcher.suggest("whole")
    searcher.on_trial_complete("whole", RAN_OUT)
    for name in "ab":
        assert isinstance(searcher.suggest(name), dict)
    for name in "ab":
        searcher.on_trial_complete(name, RAN_OUT if name in bad else done(searcher, name))
    assert searcher.suggest("end") == Searcher.FINISHED
    (told,) = optuna_trials(searcher)
    value = truth(ConfigurationMaker(study, prints)(told.params).trial, 1.5)  # type: ignore[arg-type]
    expected = (TrialState.FAIL, None) if bad else (TrialState.COMPLETE, pytest.approx(value))
    assert (told.state, told.value) == expected


@pytest.mark.parametrize("case", told(__file__, "deaths.yaml"), ids=lambda case: case["reason"])
def test_a_lost_node_is_told_from_a_dead_worker(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ray's words, and by whether there is a link to any other node."""
    monkeypatch.setattr(internals.ray, "nodes", lambda: [{}] * case["nodes"])
    assert death_of(case["told"]) == Death(Failure[case["failure"]], case["reason"])


def test_a_study_whose_workers_cannot_start_ends(prints: Fingerprints) -> None:
    """Once a trial that never began has failed, while none has begun; one may have bad luck."""
    study = make_study(space=KL)
    (work, *_) = works(study, prints)
    attempts = {name: Attempt(work) for name in "ab"}
    attempts["a"].state, attempts["b"].state = State.INTERRUPTED, State.FAIL
    searcher: Any = SimpleNamespace(attempts=attempts)
    monitor = Monitor(searcher, Mock(), Mock(), study, lambda: None)
    for name in "ab":
        monitor.on_step_begin(0, [])
        monitor.on_trial_error(0, [], SimpleNamespace(trial_id=name, get_error=lambda: None))
    with pytest.raises(ClusterError, match="no worker can start"):
        monitor.on_step_begin(1, [])
