"""Which trial an idle worker goes to, and how many are given out, without Ray."""

from collections.abc import Set
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import FIFOScheduler

from harness.planning.fingerprints import Fingerprints
from harness.tuning.asha import Unhalved
from harness.tuning.places import Places
from harness.tuning.worker_deaths import Deaths
from tests.harness.fakes import make_study
from tests.harness.tuning.searchers import KL, done, searcher_of


class FakeTrial:
    """As far as Places looks at a trial of Tune's."""

    PENDING, RUNNING = "PENDING", "RUNNING"

    def __init__(self, trial_id: str, status: str) -> None:
        self.trial_id = trial_id
        self.status = status

    def is_finished(self) -> bool:
        return self.status == "TERMINATED"


class FakeController:
    """As far as Places looks at Tune's controller: the workers that have a place, by trial."""

    def __init__(self, trials: list[FakeTrial], placed: Set[str], asked: Set[str] = frozenset()):
        self._trials = trials
        workers = {trial: trial.trial_id for trial in trials if trial.trial_id in placed | asked}
        manager = SimpleNamespace(is_actor_started=placed.__contains__)
        # Tune hands schedulers a wrapper
        self._tune_controller = SimpleNamespace(_trial_to_actor=workers, _actor_manager=manager)

    def get_trials(self) -> list[FakeTrial]:
        return self._trials


def trials(**status: str) -> list[FakeTrial]:
    """Trials by name, in the order in which they were given out."""
    return [FakeTrial(name, held) for name, held in status.items()]


def test_an_idle_worker_goes_to_the_trial_that_has_none() -> None:
    """Not to the one before it, whose worker starts, nor to one whose worker waits for a place."""
    found = trials(ended="TERMINATED", runs="RUNNING", starts="PENDING", waits="PENDING")
    controller = FakeController(found, placed={"runs", "starts"}, asked={"waits"})
    scheduler = Unhalved(Deaths(frozenset), Places(2))
    assert scheduler.choose_trial_to_run(controller) is found[3]
    assert FIFOScheduler().choose_trial_to_run(controller) is found[2]  # Tune's own choice
    found[3].status = "RUNNING"
    assert scheduler.choose_trial_to_run(controller) is None


def test_the_first_trials_are_given_out_together_and_then_one_waits(prints: Fingerprints) -> None:
    """One for each place; one more when all of these have theirs; one for each place that ends."""
    searcher = searcher_of(make_study(space=KL, concurrency=None), prints, places=2)
    given = [searcher.suggest(name) for name in "abc"]
    assert [config is not None for config in given] == [True, True, False]
    both = trials(a="RUNNING", b="PENDING")
    searcher.places.look(FakeController(both, placed={"a"}), both)
    assert searcher.suggest("c") is None  # b waits
    searcher.places.look(FakeController(both, placed={"a", "b"}), both)
    assert searcher.suggest("c") is not None
    assert searcher.suggest("d") is None
    searcher.on_trial_complete("a", done(searcher, "a"))
    assert searcher.suggest("d") is None  # c takes over a's worker
    left = trials(b="PENDING", c="RUNNING")
    searcher.places.look(FakeController(left, placed={"b", "c"}), left)
    assert searcher.suggest("d") is not None


@pytest.mark.parametrize("joined", [1, 3])
def test_nodes_that_join_are_found_work(prints: Fingerprints, joined: int) -> None:
    """Each trial that gets a place lets another one wait, however many places were known."""
    searcher = searcher_of(make_study(space=KL, concurrency=None), prints, places=1)
    names = [str(n) for n in range(2 + joined)]
    found: list[FakeTrial] = []
    for name in names:
        assert searcher.suggest(name) is not None
        found.append(FakeTrial(name, "PENDING"))
        searcher.places.look(FakeController(found, placed=set(names)), found)
    searcher.places.look(FakeController(found, placed=set(names[:-1])), found)
    assert searcher.suggest("one more") is None
