"""Concurrent trials of a study, and the workers that run them."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import Behavior, make_study, make_unpickling_trap

PATIENCE_SECONDS = 60.0
N_TRIALS = 8
# of the first worker, before the second one has started
N_MEANWHILE = 3


def staggered(folder: Path) -> Behavior:
    """Return a behavior of two workers, the second of which starts late.

    The first worker runs several trials meanwhile. The process ID of each trial is written to
    `served`, and that of the second worker to `second`.
    """

    def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)

    def served() -> list[str]:
        file = folder / "served"
        return file.read_text().split() if file.exists() else []

    def start() -> None:
        process_id = str(os.getpid())
        for name in ("first", "second"):
            with suppress(FileExistsError), (folder / name).open("x") as file:
                file.write(process_id)
            if (folder / name).read_text() == process_id:  # a worker unpickles the method twice
                break
        if name == "second":
            until(lambda: len(served()) > N_MEANWHILE)

    trap = make_unpickling_trap(start)

    def behave(config: TrialConfig, epoch: int) -> None:
        if epoch == 1:
            with (folder / "served").open("a") as file:
                file.write(f"{os.getpid()} ")
            until((folder / "second").exists)
            if len(served()) == N_MEANWHILE + 2:  # the second may begin now: it has a trial, too
                until(lambda: len(set(served())) == 2)
        str(trap)  # so that it travels with the method

    return behave


@pytest.mark.weekly
def test_starting_worker_is_kept(ray_bench: Bench, tmp_path: Path) -> None:
    """The first worker runs several trials meanwhile; then both run the rest."""
    ray_bench.behave = staggered(tmp_path)
    space = {"generator.n_ctx": list(range(1, 1 + N_TRIALS))}
    drawn = {"scheduler": "asha", "sampler": "tpe", "n_trials": N_TRIALS}
    study = make_study(space=space, seeds=1, max_concurrent_trials=None, **drawn)
    assert ray_bench.run(study).complete
    served = (tmp_path / "served").read_text().split()
    assert len(served) == N_TRIALS
    assert len(set(served)) == 2
    assert (tmp_path / "second").read_text() in served
    ray_bench.check_invariants()
