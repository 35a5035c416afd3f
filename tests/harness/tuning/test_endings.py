"""What runs again after a trial went wrong, why its worker died, and when workers are given up."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.trial import TrialState
from ray.exceptions import ActorUnavailableError
from ray.tune.search import Searcher

from harness.errors import ClusterError
from harness.messages import FAILED, failure
from harness.planning.fingerprints import Fingerprints
from harness.planning.settings import SettingMaker
from harness.ray import Death, Deaths
from harness.tuning.endings import NODE_RETRIES, Ending, Order, ending_of
from harness.tuning.monitor import Monitor
from reports.contract import Failure, State
from tests.harness.fakes import make_study, truth
from tests.harness.tuning.searchers import KL, RANGE, done, optuna_trials, searcher_of, works
from tests.told import told

DIED = Death(Failure.WORKER_DIED, "its worker process died")
LOST = Death(Failure.NODE_LOST, "its node was lost")
SHORT = Death(Failure.OUT_OF_MEMORY, "killed by Ray as memory ran low")
RAN_OUT = {FAILED: [failure(MemoryError("no more"), (0,), "at stage final, epoch 1")]}


def given(prints: Fingerprints, seeds: int = 1) -> Order:
    """What a Ray trial is given."""
    return Order(works(make_study(space=KL, seeds=seeds), prints)[0])


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        # the second death is the trial's own; a lost node in between counts for nothing
        ([LOST, DIED, LOST, DIED], "its worker process died (try 4)"),
        # a setting that takes every node with it does not run for ever
        ([LOST] * (NODE_RETRIES + 1), f"its node was lost (try {NODE_RETRIES + 1})"),
        # one seed that Ray kills may be the victim of others
        ([SHORT, SHORT], "killed by Ray as memory ran low (try 2)"),
    ],
)
def test_workers_may_die_once_and_nodes_be_lost_a_few_times(
    prints: Fingerprints, deaths: list[Death], reason: str
) -> None:
    """The trial runs again as it was; then it has failed, of what it died of last."""
    now = given(prints)
    for death in deaths[:-1]:
        ending, (now,) = ending_of(now, {}, None, death)
        assert ending.state is State.INTERRUPTED
        assert ending.reason.startswith(death.reason) and ending.reason.endswith("; tried again")
    ending, left = ending_of(now, {}, None, deaths[-1])
    assert (ending.state, ending.failure, left) == (State.FAIL, deaths[-1].failure, [])
    assert ending.reason == reason


def test_what_was_pruned_does_not_run_again(prints: Fingerprints) -> None:
    """Its state stands, with the scheduler's reason, whatever its worker then dies of."""
    ending, left = ending_of(given(prints), {}, "asha stopped it", DIED)
    assert (ending.state, ending.reason, left) == (State.PRUNED, "asha stopped it", [])


@pytest.mark.parametrize(("last", "death"), [(RAN_OUT, None), ({}, SHORT)])
def test_a_setting_that_takes_too_much_memory_runs_in_halves_of_its_seeds(
    prints: Fingerprints, last: dict[str, Any], death: Death | None
) -> None:
    """Once, and not a single seed: what fails again is FAIL."""
    ending, left = ending_of(given(prints, seeds=5), last, None, death)
    assert ending.state is State.INTERRUPTED
    assert ending.reason.endswith("; tried again in halves of its seeds")
    assert [half.work.seeds for half in left] == [(0, 1), (2, 3, 4)]
    assert not any(half.work.may_stop for half in left)
    for one in (left[1], given(prints)):
        ending, again = ending_of(one, RAN_OUT, None, None)
        assert (ending.state, ending.failure, again) == (State.FAIL, Failure.OUT_OF_MEMORY, [])


@pytest.mark.parametrize("bad", ["", "a", "b", "ab"])
def test_optuna_is_told_of_a_halved_setting_once(prints: Fingerprints, bad: str) -> None:
    """The mean over all of its seeds; FAIL, whichever half failed: fewer are not what was asked."""
    study = make_study(space=RANGE, sampler="random", trials=1, seeds=4, concurrency=None)
    searcher = searcher_of(study, prints)
    searcher.suggest("whole")
    searcher.on_trial_complete("whole", RAN_OUT)
    for name in "ab":
        assert isinstance(searcher.suggest(name), dict)
    for name in "ab":
        searcher.on_trial_complete(name, RAN_OUT if name in bad else done(searcher, name))
    assert searcher.suggest("end") == Searcher.FINISHED
    (told,) = optuna_trials(searcher)
    value = truth(SettingMaker(study, prints)(told.params).config, 1.5)  # type: ignore[arg-type]
    expected = (TrialState.FAIL, None) if bad else (TrialState.COMPLETE, pytest.approx(value))
    assert (told.state, told.value) == expected


NODES = {"a": ("a", 1), "b": ("b", 1)}
DEAD = "The actor died unexpectedly before finishing this task"
# what Ray 2.60 said after a link was cut for 20 s
RESET = "RpcError: RPC error: recvmsg:Connection reset by peer rpc_code: 14"
CUT_OFF = str(ActorUnavailableError(f"The actor is temporarily unavailable: {RESET}", None))


@pytest.mark.parametrize("case", told(__file__, "deaths.yaml"), ids=str)
def test_a_lost_node_is_told_from_a_dead_worker(case: dict[str, Any]) -> None:
    """By what has become of the nodes that there were when the trial began, and by Ray's words."""
    living = "ab"
    deaths = Deaths(
        lambda: frozenset(NODES[name] for name in living),
        lambda node: node[0] in case["answer"],
        lambda: "a",
    )
    living = case.get("began", living)
    deaths.began("one")
    where = "before its first epoch"
    if case["said"]:
        where = "at stage final, epoch 1"
        deaths.reached("one", where, case["said"])
    living = case["left"]
    deaths.saw("one", CUT_OFF if case.get("cut_off") else DEAD)
    died = Failure.WORKER_DIED if case["reason"] == DIED.reason else Failure.NODE_LOST
    assert deaths.of("one") == Death(died, f"{case['reason']} {where}")


def test_what_the_driver_did_is_not_the_workers_fault() -> None:
    """Its reason stands, whatever Ray then says, and no node is asked for another."""
    asked = Mock(return_value=frozenset(NODES.values()))
    deaths = Deaths(asked)
    deaths.overdue("late", 2.5)
    asked.reset_mock()
    deaths.saw("late", "The actor died")
    asked.assert_not_called()  # nor their raylets, each of which may take seconds to answer
    assert deaths.of("late").failure is Failure.TIME_LIMIT
    deaths.ended("late")
    assert deaths.of("late").failure is Failure.WORKER_DIED
    deaths.saw("big", "1 worker(s) were killed due to the node running low on memory. Memory on "
               "the node (IP: x, ID: y) was 2.39GB used / 23.54GB limit (0.101568)")  # fmt: skip
    reason = "killed by Ray as memory ran low (2.39GB used / 23.54GB) before its first epoch"
    assert deaths.of("big") == Death(Failure.OUT_OF_MEMORY, reason)


@pytest.mark.parametrize("places", [1, 2, 8])
def test_as_many_workers_may_die_at_their_start_as_start_at_once(
    prints: Fingerprints, places: int
) -> None:
    """Each of them twice: a node that cannot start any must not end a study that others can run."""
    study = make_study(space=KL)
    (work, *_) = works(study, prints)
    searcher: Any = SimpleNamespace(
        work=lambda trial_id: work,
        ending=lambda trial_id: Ending(State.INTERRUPTED, reason="its worker process died"),
        deaths=Deaths(frozenset),
        at_once=lambda: places,
    )
    monitor = Monitor(searcher, Mock(), Mock(), study, lambda: None)
    most = 2 * max(2, places)
    for number in range(most):
        monitor.on_step_begin(number, [])
        monitor.on_trial_error(number, [], SimpleNamespace(trial_id=str(number), error_file=None))
    with pytest.raises(ClusterError, match="no worker can start"):
        monitor.on_step_begin(most, [])
