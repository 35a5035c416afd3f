"""Retries of trials by cause, causes of a worker's death, and workers that cannot start."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from harness.errors import ClusterError
from harness.messages import FAILED, encode_failure
from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.ray import Death, parse_death, patches
from harness.store import Failure, State
from harness.tuning.monitor import Monitor, format_seeds
from harness.tuning.retries import Attempt
from tests.case_files import load_cases
from tests.harness.fakes import compute_result, make_study
from tests.harness.tuning.searchers import (
    KL,
    RANGE,
    list_optuna_trials,
    make_result,
    make_searcher,
    make_work,
    run_trials,
)

DIED = Death(Failure.WORKER_DIED, "its worker process died")
LOST = Death(Failure.NODE_LOST, "its node was lost")
SHORT = Death(Failure.OUT_OF_MEMORY, "killed by Ray because memory was low")
RAN_OUT = {FAILED: [encode_failure(MemoryError("no more"), (0,), "after epoch 1 of stage final")]}


def make_attempt(prints: Fingerprints, seeds: int = 1) -> Attempt:
    """Return an attempt of a trial."""
    return Attempt(make_work(make_study(space=KL, seeds=seeds), prints)[0])


def died(
    attempt: Attempt, death: Death | None, last: dict[str, Any] | None = None
) -> list[Attempt]:
    """End an attempt by its worker's death or by its last result, and return its retries."""
    attempt.death = death
    return attempt.end(last or {})


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        # the second death is the trial's own; a lost node in between counts for nothing
        ([LOST, DIED, LOST, DIED], "its worker process died before its first epoch (attempt 4)"),
        # a configuration that kills every node is not retried forever
        ([LOST] * 6, "its node was lost before its first epoch (attempt 6)"),
        # one seed that Ray kills may be the victim of others
        ([SHORT, SHORT], "killed by Ray because memory was low before its first epoch (attempt 2)"),
    ],
)
def test_worker_deaths_and_lost_nodes_are_retried(
    prints: Fingerprints, deaths: list[Death], reason: str
) -> None:
    """The trial is retried unchanged; after the limit it fails with its last cause."""
    now = make_attempt(prints)
    for death in deaths[:-1]:
        before, (now,) = now, died(now, death)
        assert before.state is State.INTERRUPTED
        assert before.reason.startswith(death.reason) and before.reason.endswith("; retried")
    assert died(now, deaths[-1]) == []
    assert (now.state, now.failure, now.reason) == (State.FAIL, deaths[-1].failure, reason)


@pytest.mark.parametrize(("last", "death"), [(RAN_OUT, None), ({}, SHORT)])
def test_out_of_memory_trial_is_retried_in_two_halves(
    prints: Fingerprints, last: dict[str, Any], death: Death | None
) -> None:
    """It is halved until a single seed runs out of memory, which is FAIL."""
    whole = make_attempt(prints, seeds=5)
    left = died(whole, death, last)
    assert whole.state is State.INTERRUPTED
    assert whole.reason.endswith("; retried as two trials with half of the seeds each")
    assert [half.work.seeds for half in left] == [(0, 1), (2, 3, 4)]
    assert not any(half.work.may_stop for half in left)
    first, second = died(left[1], None, RAN_OUT)
    assert (first.work.seeds, second.work.seeds) == ((2,), (3, 4))
    assert died(first, None, RAN_OUT) == []
    assert (first.state, first.failure) == (State.FAIL, Failure.OUT_OF_MEMORY)


@pytest.mark.parametrize("bad", ["", "b"])
def test_halved_configuration_is_reported_to_optuna_once(prints: Fingerprints, bad: str) -> None:
    """With the mean over all seeds, or FAIL if either half failed."""
    study = make_study(
        space=RANGE, sampler="random", n_trials=1, seeds=2, max_concurrent_trials=None
    )
    searcher = make_searcher(study, prints)
    searcher.suggest("whole")
    searcher.on_trial_complete("whole", RAN_OUT)
    for name in "ab":
        assert isinstance(searcher.suggest(name), dict)
    for name in "ab":
        searcher.on_trial_complete(name, RAN_OUT if name in bad else make_result(searcher, name))
    assert searcher.suggest("end") == Searcher.FINISHED
    (reported,) = list_optuna_trials(searcher)
    value = compute_result(ConfigurationMaker(study, prints)(reported.params).trial, 0.5)  # type: ignore[arg-type]
    expected = (TrialState.FAIL, None) if bad else (TrialState.COMPLETE, pytest.approx(value))
    assert (reported.state, reported.value) == expected


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_later_trials_begin_with_as_many_seeds_as_fit(prints: Fingerprints, scheduler: str) -> None:
    """A trial that the scheduler may stop begins with all seeds: its means must be comparable."""
    study = make_study(
        space={"generator.n_ctx": [4, 8, 16]}, seeds=5, scheduler={"name": scheduler}
    )
    searcher = make_searcher(study, prints)
    searcher.suggest("a")
    searcher.on_trial_complete("a", RAN_OUT)
    seeds = [work.seeds for work in run_trials(searcher)]
    halves = [(0, 1), (2, 3, 4)]
    later = [(0, 1, 2, 3, 4)] if scheduler == "asha" else halves
    assert seeds == [*halves, *later, *later]


def test_lack_of_memory_says_nothing_about_other_methods(prints: Fingerprints) -> None:
    """A trial of another fine-tuner begins with all seeds."""
    study = make_study(space={"finetuner": ["coop", "clip_adapter"]}, seeds=4)
    searcher = make_searcher(study, prints)
    searcher.suggest("a")
    searcher.on_trial_complete("a", RAN_OUT)
    assert [work.seeds for work in run_trials(searcher)] == [(0, 1), (2, 3), (0, 1, 2, 3)]


@pytest.mark.parametrize(
    "case", load_cases(__file__, "deaths.yaml"), ids=lambda case: case["reason"]
)
def test_lost_node_is_distinguished_from_dead_worker(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ray's message, and by whether the cluster has another node."""
    monkeypatch.setattr(patches.ray, "nodes", lambda: [{}] * case["nodes"])
    assert parse_death(case["message"]) == Death(Failure[case["failure"]], case["reason"])


def test_study_ends_if_no_worker_can_start(prints: Fingerprints) -> None:
    """It ends once a trial has failed before any trial started."""
    study = make_study(space=KL)
    (work, *_) = make_work(study, prints)
    attempts = {name: Attempt(work) for name in "ab"}
    attempts["a"].state, attempts["b"].state = State.INTERRUPTED, State.FAIL
    searcher: Any = SimpleNamespace(attempts=attempts)
    monitor = Monitor(searcher, Mock(), Mock(), study, lambda: None)
    for name in "ab":
        monitor.on_step_begin(0, [])
        monitor.on_trial_error(0, [], SimpleNamespace(trial_id=name, get_error=lambda: None))
    with pytest.raises(ClusterError, match="no worker can start"):
        monitor.on_step_begin(1, [])


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ((3,), "seed 3"),
        ((0, 2, 5), "seeds 0, 2, 5"),
        (tuple(range(0, 20, 2)), "10 seeds from 0 to 18"),
    ],
)
def test_progress_names_the_seeds_of_a_part(seeds: tuple[int, ...], text: str) -> None:
    """A few are listed, many have their number and range."""
    assert format_seeds(seeds) == text
