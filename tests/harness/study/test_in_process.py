"""Studies in this process, without Ray's: the same runs and numbers, and a method at hand."""

import signal
import threading
import time

from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table, undisturbed


def test_the_store_is_as_ray_leaves_it(ray_bench: Bench, bench: Bench) -> None:
    """Every row, and the table as it is printed."""
    study = make_study(reference_arms=True)
    assert ray_bench.run(study).complete
    folder = bench.log.parent
    quiet = undisturbed(study, folder / "quiet.db", folder)
    assert_same_table(ray_bench.uri, quiet)


def test_a_method_runs_where_the_study_was_started(bench: Bench) -> None:
    """So that a breakpoint in it stops there."""
    seen: set[str] = set()
    bench.behave = lambda config, epoch: seen.add(threading.current_thread().name)
    assert bench.run(make_study(space={"generator.n_ctx": [1]})).complete
    assert seen == {threading.main_thread().name}


def test_an_interrupt_ends_in_order_and_the_next_run_goes_on(bench: Bench) -> None:
    """Behind the epoch that was running; nothing is left RUNNING."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2 and epoch == 2:
            signal.raise_signal(signal.SIGINT)

    bench.behave = behave
    outcome = bench.run(make_study(checkpoint_every=0))
    assert outcome.interrupted and outcome.done == 1
    assert bench.states() == ["COMPLETE", "INTERRUPTED"]
    bench.check_invariants()
    bench.behave = None
    assert bench.run(make_study(checkpoint_every=0)).complete
    assert "went on behind" in bench.log.read_text()
    bench.check_invariants()


def test_a_trial_past_its_time_limit_ends_with_its_next_result(bench: Bench) -> None:
    """It fails as it does on Ray, and the others do not wait for it."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2:
            time.sleep(0.3)

    bench.behave = behave
    outcome = bench.run(make_study(time_limit=0.25))
    assert (outcome.done, outcome.failed) == (2, 1)
    (failed,) = [run for run in bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    assert failed.data.tags["ship.failure"] == "time_limit"
    bench.check_invariants()
