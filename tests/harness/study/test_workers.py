"""How many trials of a study are out at once, and which worker takes them."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import MagicMock, Mock

import pytest
from rich.console import Console

from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.study.standing import Standing
from harness.study.trials import Options, Trials
from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import Behaviour, make_study, trap_elsewhere
from tests.harness.tuning.searchers import EMPTY, KL

PATIENCE_SECONDS = 60.0
N_TRIALS = 8
# of the first worker, before the second one has started
N_MEANWHILE = 3


def staggered(folder: Path) -> Behaviour:
    """Two workers, of which the second starts while the first one runs several trials to their end.

    Writes the process id of each trial into `served`, and that of the second worker into `second`.
    """

    def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)

    def served() -> list[str]:
        file = folder / "served"
        return file.read_text().split() if file.exists() else []

    def start() -> None:
        own = str(os.getpid())
        for name in ("first", "second"):
            with suppress(FileExistsError), (folder / name).open("x") as file:
                file.write(own)
            if (folder / name).read_text() == own:  # a worker unpickles the method twice
                break
        if name == "second":
            until(lambda: len(served()) > N_MEANWHILE)

    trap = trap_elsewhere(start)

    def behave(config: TrialConfig, epoch: int) -> None:
        if epoch == 1:
            with (folder / "served").open("a") as file:
                file.write(f"{os.getpid()} ")
            until((folder / "second").exists)
            if len(served()) == N_MEANWHILE + 2:  # the second may begin now: it has a trial, too
                until(lambda: len(set(served())) == 2)
        str(trap)  # so that it travels with the method

    return behave


@pytest.mark.slow
def test_a_worker_that_starts_is_not_given_up_for_one_that_is_there(
    ray_bench: Bench, tmp_path: Path
) -> None:
    """The first worker takes up further trials meanwhile, then both run the rest."""
    ray_bench.behave = staggered(tmp_path)
    space = {"generator.n_ctx": list(range(1, 1 + N_TRIALS))}
    drawn = {"scheduler": "asha", "sampler": "tpe", "trials": N_TRIALS}
    study = make_study(space=space, seeds=1, concurrency=None, **drawn)
    assert ray_bench.run(study).complete
    served = (tmp_path / "served").read_text().split()
    assert len(served) == N_TRIALS
    assert len(set(served)) == 2
    assert (tmp_path / "second").read_text() in served
    ray_bench.check_invariants()


@pytest.mark.parametrize(
    ("owned", "address", "concurrency", "places"),
    [
        (True, None, None, [2, 2]),
        (False, None, None, [3, 5]),  # open already: it may be a cluster's
        (True, "auto", None, [3, 5]),
        (True, "auto", 4, [3, 4]),
    ],
)
def test_a_cluster_gets_one_trial_more_than_it_has_room_for(
    prints: Fingerprints,
    monkeypatch: pytest.MonkeyPatch,
    owned: bool,
    address: str | None,
    concurrency: int | None,
    places: list[int],
) -> None:
    """So that an autoscaler has a reason to add a node, within what the study allows."""
    there = {"CPU": 2.0}
    monkeypatch.setattr("harness.ray.cluster_resources", lambda: [there])
    monkeypatch.setattr("harness.tuning.sweep_through_tune", Mock())
    searcher = Mock()
    monkeypatch.setattr("harness.tuning.StudySearcher", searcher)
    study, quiet = make_study(space=KL, concurrency=concurrency), Console(quiet=True)
    others = MagicMock()
    plan, options = make_plan(study, EMPTY, prints), Options(quiet, False, address)
    standing = Standing(study, prints, others, EMPTY, None, plan)
    Trials(standing, others, others, options, others)._sweep({}, owned)
    at_once = searcher.call_args.args[-1]
    found = [at_once()]
    there["CPU"] = 4.0
    assert [*found, at_once()] == places
