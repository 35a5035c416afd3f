"""Trials are retried depending on the cause of their failure."""

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
MEMORY_KILL = Death(Failure.OUT_OF_MEMORY, "killed by Ray because memory was low")
OUT_OF_MEMORY = {
    FAILED: [encode_failure(MemoryError("no more"), (0,), "after epoch 1 of stage final")]
}


def make_attempt(prints: Fingerprints, seeds: int = 1) -> Attempt:
    """Return an attempt of a trial."""
    return Attempt(make_work(make_study(space=KL, seeds=seeds), prints)[0])


def end_attempt(
    attempt: Attempt, death: Death | None, last: dict[str, Any] | None = None
) -> list[Attempt]:
    """End an attempt by its worker's death or by its last result, and return its retries."""
    attempt.death = death
    return attempt.end(last or {})


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        # A trial fails at its second death. Lost nodes are not counted.
        ([LOST, DIED, LOST, DIED], "its worker process died before its first epoch (attempt 4)"),
        # A configuration that kills its nodes is not retried without limit.
        ([LOST] * 6, "its node was lost before its first epoch (attempt 6)"),
        # A single seed that Ray kills is retried once, because others may have used the memory.
        (
            [MEMORY_KILL, MEMORY_KILL],
            "killed by Ray because memory was low before its first epoch (attempt 2)",
        ),
    ],
)
def test_worker_deaths_and_lost_nodes_are_retried(
    prints: Fingerprints, deaths: list[Death], reason: str
) -> None:
    """The trial is retried with the same seeds. After the limit, it fails with its last cause."""
    attempt = make_attempt(prints)
    for death in deaths[:-1]:
        previous, (attempt,) = attempt, end_attempt(attempt, death)
        assert previous.state is State.INTERRUPTED
        assert previous.reason.startswith(death.reason) and previous.reason.endswith("; retried")
    assert end_attempt(attempt, deaths[-1]) == []
    assert (attempt.state, attempt.failure) == (State.FAIL, deaths[-1].failure)
    assert attempt.reason == reason


@pytest.mark.parametrize(("last", "death"), [(OUT_OF_MEMORY, None), ({}, MEMORY_KILL)])
def test_out_of_memory_trial_is_retried_in_two_halves(
    prints: Fingerprints, last: dict[str, Any], death: Death | None
) -> None:
    """It is halved repeatedly. A single seed that runs out of memory fails."""
    whole = make_attempt(prints, seeds=5)
    halves = end_attempt(whole, death, last)
    assert whole.state is State.INTERRUPTED
    assert whole.reason.endswith("; retried as two trials with half of the seeds each")
    assert [half.work.seeds for half in halves] == [(0, 1), (2, 3, 4)]
    assert not any(half.work.may_stop for half in halves)
    first, second = end_attempt(halves[1], None, OUT_OF_MEMORY)
    assert (first.work.seeds, second.work.seeds) == ((2,), (3, 4))
    assert end_attempt(first, None, OUT_OF_MEMORY) == []
    assert (first.state, first.failure) == (State.FAIL, Failure.OUT_OF_MEMORY)


@pytest.mark.parametrize("failed", ["", "b"])
def test_halved_configuration_is_reported_to_optuna_once(prints: Fingerprints, failed: str) -> None:
    """Optuna gets the mean over all seeds, or FAIL if a half failed."""
    study = make_study(
        space=RANGE, sampler="random", n_trials=1, seeds=2, max_concurrent_trials=None
    )
    searcher = make_searcher(study, prints)
    searcher.suggest("whole")
    searcher.on_trial_complete("whole", OUT_OF_MEMORY)
    for name in "ab":
        assert isinstance(searcher.suggest(name), dict)
    for name in "ab":
        searcher.on_trial_complete(
            name, OUT_OF_MEMORY if name in failed else make_result(searcher, name)
        )
    assert searcher.suggest("end") == Searcher.FINISHED
    (reported,) = list_optuna_trials(searcher)
    value = compute_result(ConfigurationMaker(study, prints)(reported.params).trial, 0.5)  # type: ignore[arg-type]
    expected = (TrialState.FAIL, None) if failed else (TrialState.COMPLETE, pytest.approx(value))
    assert (reported.state, reported.value) == expected


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_later_trials_begin_with_as_many_seeds_as_fit(prints: Fingerprints, scheduler: str) -> None:
    """If the scheduler may stop a trial, it begins with all seeds so that means are comparable."""
    study = make_study(
        space={"generator.n_ctx": [4, 8, 16]}, seeds=5, scheduler={"name": scheduler}
    )
    searcher = make_searcher(study, prints)
    searcher.suggest("a")
    searcher.on_trial_complete("a", OUT_OF_MEMORY)
    seeds = [work.seeds for work in run_trials(searcher)]
    halves = [(0, 1), (2, 3, 4)]
    later = [(0, 1, 2, 3, 4)] if scheduler == "asha" else halves
    assert seeds == [*halves, *later, *later]


def test_lack_of_memory_does_not_affect_other_methods(prints: Fingerprints) -> None:
    """A trial of another fine-tuner begins with all seeds."""
    study = make_study(space={"finetuner": ["coop", "clip_adapter"]}, seeds=4)
    searcher = make_searcher(study, prints)
    searcher.suggest("a")
    searcher.on_trial_complete("a", OUT_OF_MEMORY)
    assert [work.seeds for work in run_trials(searcher)] == [(0, 1), (2, 3), (0, 1, 2, 3)]


@pytest.mark.parametrize(
    "case", load_cases(__file__, "deaths.yaml"), ids=lambda case: case["reason"]
)
def test_lost_node_is_distinguished_from_dead_worker(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause depends on Ray's message and the number of nodes."""
    monkeypatch.setattr(patches.ray, "nodes", lambda: [{}] * case["nodes"])
    assert parse_death(case["message"]) == Death(Failure[case["failure"]], case["reason"])


def test_study_ends_if_no_worker_can_start(prints: Fingerprints) -> None:
    """It ends when a trial has failed for good before any trial has started."""
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
def test_progress_names_the_seeds_of_a_trial(seeds: tuple[int, ...], text: str) -> None:
    """A few seeds are listed. Many are given as their number and range."""
    assert format_seeds(seeds) == text
