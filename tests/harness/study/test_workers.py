"""Workers of concurrent trials that start at different times."""

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
# Trials of the first worker before the second one starts.
N_EARLY_TRIALS = 3


def make_staggered_behavior(folder: Path) -> Behavior:
    """Return a behavior of two workers, the second of which starts late.

    The first worker runs several trials in the meantime. The process ID of each trial is written to
    the file `trials`, and that of the second worker to `second`.
    """

    def wait_until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)

    def list_trials() -> list[str]:
        file = folder / "trials"
        return file.read_text().split() if file.exists() else []

    def start_worker() -> None:
        process_id = str(os.getpid())
        for name in ("first", "second"):
            with suppress(FileExistsError), (folder / name).open("x") as file:
                file.write(process_id)
            if (folder / name).read_text() == process_id:  # a worker unpickles the method twice
                break
        if name == "second":
            wait_until(lambda: len(list_trials()) > N_EARLY_TRIALS)

    trap = make_unpickling_trap(start_worker)

    def behave(config: TrialConfig, epoch: int) -> None:
        if epoch == 1:
            with (folder / "trials").open("a") as file:
                file.write(f"{os.getpid()} ")
            wait_until((folder / "second").exists)
            if len(list_trials()) == N_EARLY_TRIALS + 2:  # the second worker has a trial, too
                wait_until(lambda: len(set(list_trials())) == 2)
        str(trap)  # so that the trap is pickled with this function

    return behave


@pytest.mark.weekly
def test_starting_worker_is_kept(ray_bench: Bench, tmp_path: Path) -> None:
    """The first worker runs several trials before the second one starts. Then both run trials."""
    ray_bench.behave = make_staggered_behavior(tmp_path)
    space = {"generator.n_ctx": list(range(1, 1 + N_TRIALS))}
    search = {"scheduler": "asha", "sampler": "tpe", "n_trials": N_TRIALS}
    study = make_study(space=space, seeds=1, max_concurrent_trials=None, **search)
    assert ray_bench.run(study).complete
    process_ids = (tmp_path / "trials").read_text().split()
    assert len(process_ids) == N_TRIALS
    assert len(set(process_ids)) == 2
    assert (tmp_path / "second").read_text() in process_ids
    ray_bench.check_invariants()
