"""What runs again after a trial went wrong, why its worker died, and when a study gives up."""

from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from harness.cluster import memory_kills_as_worker_deaths
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.store.ledger import Ledger
from harness.tuning.failure_streak import Streak
from harness.tuning.retry_policy import NODE_RETRIES, Given, judge
from harness.tuning.worker_deaths import Death, Deaths
from harness.worker.results import FAILED, failure
from reports.contract import Failure, State
from tests.harness.fakes import make_study
from tests.harness.tuning.searchers import RANGE, done, optuna_trials, searcher_of

DIED = Death(Failure.WORKER_DIED, "its worker process died")
LOST = Death(Failure.NODE_LOST, "its node was lost")
SHORT = Death(Failure.OUT_OF_MEMORY, "killed by Ray as memory ran low")


def given(prints: Fingerprints, seeds: int = 1) -> Given:
    """What a Ray trial is given."""
    space = {"generator.kl_weight": [0.1]}
    (work,) = make_plan(make_study(space=space, seeds=seeds), Ledger(), prints).work
    return Given(work)


def ran_out() -> dict[str, Any]:
    """The last result of a trial whose method ran out of memory."""
    return {FAILED: [failure(MemoryError("no more"), (0,), "at stage final, epoch 1")]}


def test_a_dead_worker_is_given_one_chance(prints: Fingerprints) -> None:
    """The second death in a row is the trial's own; a lost node in between counts for nothing."""
    first = given(prints)
    ending, (second,) = judge(first, {}, None, DIED)
    assert ending.state is State.INTERRUPTED
    assert ending.reason == "its worker process died; tried again"
    ending, (third,) = judge(second, {}, None, LOST)
    assert ending.state is State.INTERRUPTED
    ending, left = judge(third, {}, None, DIED)
    assert (ending.state, left) == (State.FAIL, [])
    assert ending.failure is Failure.WORKER_DIED
    assert ending.reason == "its worker process died (try 3)"


def test_lost_nodes_fail_nobody_until_there_are_many(prints: Fingerprints) -> None:
    """A setting that takes every node with it does not run for ever."""
    now = given(prints)
    for _ in range(NODE_RETRIES):
        ending, (now,) = judge(now, {}, None, LOST)
        assert ending.state is State.INTERRUPTED
    ending, left = judge(now, {}, None, LOST)
    assert (ending.state, left, ending.failure) == (State.FAIL, [], Failure.NODE_LOST)


def test_what_was_pruned_does_not_run_again(prints: Fingerprints) -> None:
    """Its state stands, with the scheduler's reason, whatever its worker then dies of."""
    ending, left = judge(given(prints), {}, "asha stopped it", DIED)
    assert (ending.state, ending.reason, left) == (State.PRUNED, "asha stopped it", [])


@pytest.mark.parametrize("last, death", [(ran_out(), None), ({}, SHORT)])
def test_a_setting_that_takes_too_much_memory_runs_in_halves_of_its_seeds(
    prints: Fingerprints, last: dict[str, Any], death: Death | None
) -> None:
    """Once; a half that fails again is FAIL."""
    ending, left = judge(given(prints, seeds=5), last, None, death)
    assert ending.state is State.INTERRUPTED
    assert ending.reason.endswith("; tried again in halves of its seeds")
    assert [half.work.seeds for half in left] == [(0, 1), (2, 3, 4)]
    assert not any(half.work.judged for half in left)
    ending, again = judge(left[1], ran_out(), None, None)
    assert (ending.state, again) == (State.FAIL, [])
    assert ending.failure is Failure.OUT_OF_MEMORY


def test_one_seed_that_ray_kills_may_be_the_victim_of_others(prints: Fingerprints) -> None:
    """It is tried once more as it was; one that runs out of memory by itself is not."""
    ending, (again,) = judge(given(prints), {}, None, SHORT)
    assert ending.state is State.INTERRUPTED
    assert judge(again, {}, None, SHORT)[0].state is State.FAIL
    assert judge(given(prints), ran_out(), None, None)[0].state is State.FAIL


def halves(prints: Fingerprints, *last: dict[str, Any] | None) -> list[Any]:
    """Optuna's trials after a proposal of four seeds ran in halves, with these results."""
    study = make_study(space=RANGE, sampler="random", trials=1, seeds=4, concurrency=None)
    searcher = searcher_of(study, prints)
    searcher.suggest("whole")
    searcher.on_trial_complete("whole", ran_out())
    for name in "ab":
        assert isinstance(searcher.suggest(name), dict)
    for name, result in zip("ab", last, strict=True):
        searcher.on_trial_complete(name, done(searcher, name) if result is None else result)
    assert searcher.suggest("end") == Searcher.FINISHED
    return optuna_trials(searcher)


def test_optuna_is_told_of_a_halved_setting_once(prints: Fingerprints) -> None:
    """With the mean over all of its seeds."""
    from harness.planning.settings import SettingMaker
    from tests.harness.fakes import truth

    (told,) = halves(prints, None, None)
    assert told.state is TrialState.COMPLETE
    make = SettingMaker(make_study(space=RANGE, sampler="random", trials=1), prints)
    assert told.value == pytest.approx(truth(make(told.params).config, 1.5))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{0}, {1}, {0, 1}])
def test_a_setting_that_failed_for_half_of_its_seeds_has_no_value(
    prints: Fingerprints, bad: set[int]
) -> None:
    """FAIL, whichever half failed: the mean over the others is not what was asked for."""
    (told,) = halves(prints, *(ran_out() if half in bad else None for half in range(2)))
    assert (told.state, told.value) == (TrialState.FAIL, None)


def test_a_lost_node_is_told_from_a_dead_worker() -> None:
    """By what has become of the nodes that were there when the trial began."""
    nodes, silent = {("a", 1), ("b", 1)}, set[tuple[str, int]]()
    deaths = Deaths(lambda: frozenset(nodes), lambda node: node not in silent)
    for trial in ("one", "two", "three"):
        deaths.began(trial)
    deaths.reached("one", "at stage final, epoch 1")
    deaths.saw("one", "The actor died unexpectedly")
    assert deaths.of("one") == Death(
        Failure.WORKER_DIED, "its worker process died at stage final, epoch 1"
    )
    silent.add(("b", 1))
    deaths.saw("two", "unavailable: RpcError: Socket closed")
    assert deaths.of("two") == Death(Failure.NODE_LOST, "its node was lost before its first epoch")
    silent.clear(), nodes.remove(("b", 1))
    deaths.saw("three", "unavailable")
    assert deaths.of("three").failure is Failure.NODE_LOST
    deaths.began("four")
    deaths.saw("four", "The actor died unexpectedly")
    assert deaths.of("four").failure is Failure.WORKER_DIED


def test_a_connection_that_broke_is_told_from_a_dead_worker() -> None:
    """By Ray's words, where the worker may have been on another node than the driver's."""
    nodes = {("a", 1), ("b", 1)}
    deaths = Deaths(lambda: frozenset(nodes), lambda node: True, lambda: "a")
    for trial, address in (("early", None), ("here", "a"), ("there", "b"), ("dead", "b")):
        deaths.began(trial)
        if address:
            deaths.reached(trial, "at stage final, epoch 1", address)
        died = "The actor died unexpectedly before finishing this task"
        deaths.saw(trial, died if trial == "dead" else unavailable())
    assert deaths.of("early") == Death(
        Failure.NODE_LOST, "the connection to its worker was lost before its first epoch"
    )
    assert deaths.of("there").failure is Failure.NODE_LOST
    assert deaths.of("here").failure is Failure.WORKER_DIED
    assert deaths.of("dead").failure is Failure.WORKER_DIED
    alone = Deaths(lambda: frozenset({("b", 1)}), lambda node: True, lambda: "a")
    alone.began("one")
    alone.saw("one", unavailable())
    assert alone.of("one").failure is Failure.WORKER_DIED


def unavailable() -> str:
    """What Ray 2.60 said after a link was cut for 20 s."""
    from ray.exceptions import ActorUnavailableError

    what = "RpcError: RPC error: recvmsg:Connection reset by peer rpc_code: 14"
    return str(ActorUnavailableError(f"The actor is temporarily unavailable: {what}", None))


def test_a_node_that_a_trial_was_not_on_is_no_loss_to_it() -> None:
    """An autoscaler takes idle nodes away; the trial says where it is with its results."""
    nodes = {("a", 1), ("b", 1)}
    deaths = Deaths(lambda: frozenset(nodes), lambda node: True)
    for trial, address in (("here", "a"), ("there", "b"), ("elsewhere", "c")):
        deaths.began(trial)
        deaths.reached(trial, "at stage final, epoch 1", address)
    nodes.remove(("b", 1))
    for trial in ("here", "there", "elsewhere"):
        deaths.saw(trial, "The actor died unexpectedly")
    assert deaths.of("here").failure is Failure.WORKER_DIED
    assert deaths.of("there").failure is Failure.NODE_LOST
    assert deaths.of("elsewhere").failure is Failure.NODE_LOST  # joined later: unknown


def test_what_the_driver_did_is_not_the_workers_fault() -> None:
    """Its reason stands, whatever Ray then says."""
    deaths = Deaths(frozenset)
    deaths.overdue("late", 2.5)
    deaths.saw("late", "The actor died")
    assert deaths.of("late").failure is Failure.TIME_LIMIT
    deaths.ended("late")
    assert deaths.of("late").failure is Failure.WORKER_DIED
    deaths.saw("big", "1 worker(s) were killed due to the node running low on memory. Memory on "
               "the node (IP: x, ID: y) was 2.39GB used / 23.54GB limit (0.101568)")  # fmt: skip
    reason = "killed by Ray as memory ran low (2.39GB used / 23.54GB) before its first epoch"
    assert deaths.of("big") == Death(Failure.OUT_OF_MEMORY, reason)


def test_a_streak_counts_settings_and_ends_with_one_that_goes_well() -> None:
    """The summary has each reason once, with its count."""
    streak = Streak(3)
    assert streak.failed("a", "x") is None
    assert streak.failed("a", "x") is None  # its other seeds
    streak.went_well()
    assert streak.failed("b", "x") is None
    assert streak.failed("c", "y") is None
    stop = streak.failed("d", "x")
    assert str(stop) == ("stopped: 3 settings failed in a row (max_failures: 3)\n  2 x x\n  1 x y")
    endless = Streak(None)
    assert all(endless.failed(str(n), "x") is None for n in range(100))


def test_a_memory_kill_is_a_death_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune is told of it in the one way that does not end the whole run."""
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    seen: list[Exception] = []

    def record(self: Any, task: Any, exception: Exception) -> None:
        seen.append(exception)

    monkeypatch.setattr(RayActorManager, "_actor_task_failed", record)
    manager: Any = object()
    with memory_kills_as_worker_deaths():
        for error in (OutOfMemoryError("running low on memory"), ValueError("other")):
            RayActorManager._actor_task_failed(manager, None, error)  # type: ignore[arg-type]
    assert isinstance(seen[0], RayActorError) and str(seen[0]) == "running low on memory"
    assert isinstance(seen[1], ValueError)
    assert RayActorManager._actor_task_failed is record
