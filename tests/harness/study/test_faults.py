"""Faults of trials: their traces in the store, and the next run, which completes the study.

Faults that kill a worker need Ray; all others happen in the test's process.
tests/harness/same_table.py compares the table with that of an undisturbed study.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from rich.console import Console

from harness.config.study_config import StudyConfig
from harness.errors import ClusterError
from harness.method import MethodFunctions
from ship.trial_config import EpochMetrics, NonFiniteLoss, TrialConfig
from tests.case_files import load_cases
from tests.harness import fakes
from tests.harness.conftest import Bench
from tests.harness.fakes import make_sleeping_behavior, make_study, make_unpickling_trap
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import wait_for

pytestmark = pytest.mark.usefixtures("pickle_by_value")

RunUndisturbed = Callable[[StudyConfig], str]


def get_marker(bench: Bench) -> Path:
    """Return the file that exists once the fault has happened."""
    return bench.log.with_name("happened")


def make_raiser(error: Exception) -> Callable[[], None]:
    """Return a function that raises an error."""

    def act() -> None:
        raise error

    return act


def kill() -> None:
    """Kill this process with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


ACTS: dict[str, Callable[[], Any]] = {
    "raise": make_raiser(RuntimeError("out of luck\nand more")),
    "lose": make_raiser(
        NonFiniteLoss(dict.fromkeys((0, 1), "loss is not finite at stage selection, epoch 2"))
    ),
    "kill": kill,
    "exit": lambda: sys.exit(1),
    "end": lambda: os._exit(1),
    "dawdle": lambda: time.sleep(1.1),
    "hang": lambda: time.sleep(600),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),  # the worker no longer answers
}


def make_faulty_method(bench: Bench, case: Mapping[str, Any]) -> MethodFunctions:
    """Return the method of a bench with the fault of a case."""
    method, marker = bench.method, get_marker(bench)
    run_trial = method.run_trial
    if "damaged" in case:
        return replace(method, run_trial=lambda *args: run_damaged(run_trial, *args))
    if "memory" in case:
        return replace(
            method, run_trial=lambda *args: run_with_memory(case["memory"], run_trial, *args)
        )

    def behave(config: TrialConfig, epoch: int) -> None:
        act = case["acts"].get(getattr(config.generator, "n_ctx", 0))
        is_over = "once" in case and marker.exists()
        if act is not None and epoch == case.get("epoch", 2) and not is_over:
            marker.touch()
            ACTS[act]()

    return fakes.make_method(bench.log, behave)


def run_damaged(run_trial: Any, config: Any, *rest: Any) -> Iterator[EpochMetrics]:
    """Run a trial whose test metrics are infinite, incomplete or missing."""
    n_ctx = getattr(config.generator, "n_ctx", 0)
    for item in run_trial(config, *rest):
        if item.stage != "test" or n_ctx == 1:
            yield item
            continue
        values = dict(item.per_seed)
        if n_ctx == 2:
            values["new"] = (math.inf, 1.0)
        elif n_ctx == 3:
            values.pop("selection_harmonic_mean"), values.pop("selection_epoch")
        else:
            return
        yield EpochMetrics("test", item.epoch, 1.0, values)


def run_with_memory(max_seeds: int, run_trial: Any, config: Any, seeds: Any, *rest: Any) -> Any:
    """Run a trial that runs out of memory if it has more than `max_seeds` seeds."""
    if len(seeds) > max_seeds:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return run_trial(config, seeds, *rest)


CASES = load_cases(__file__, "faults.yaml")


@pytest.mark.faults
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_trial_fault_fails_only_its_configuration(
    request: pytest.FixtureRequest, run_undisturbed: RunUndisturbed, case: Mapping[str, Any]
) -> None:
    """Its run has a reason and no number. Without the fault, a rerun completes the study."""
    bench: Bench = request.getfixturevalue("ray_bench" if "ray" in case else "bench")
    study = make_study(**case.get("study", {}))
    failures, settled = case.get("failures", {}), "settled" in case
    outcome = bench.run(study, method=make_faulty_method(bench, case))
    assert "".join(state[0] for state in bench.list_states()) == case["states"]
    assert (outcome.failed, outcome.missing) == (len(failures), 0)
    for run in bench.list_trials():
        if run.data.tags["ship.state"] == "FAIL":
            failure, reason = failures[int(run.data.params["generator.n_ctx"])]
            assert (run.info.status, run.data.tags["ship.failure"]) == ("FAILED", failure)
            assert reason in run.data.tags["ship.reason"]
            assert "\n" not in run.data.tags["ship.reason"]
            assert not [key for key in run.data.metrics if key.startswith(("seed_", "objective"))]
    lines = bench.log.read_text().splitlines()
    assert [line for line in lines if line.startswith("resumed")] == case.get("resumed", [])
    bench.check_invariants()
    again = bench.run(study, method=make_faulty_method(bench, case) if settled else bench.method)
    bench.check_invariants()
    if settled:
        assert again.failed == len(failures)
        assert again.ran == any(failure != "non_finite" for failure, _ in failures.values())
        return
    assert again.complete and again.ran == bool(failures)
    assert not list((bench.cache / "checkpoints").rglob("*.*"))
    assert_same_table(bench.uri, run_undisturbed(study))


def test_checkpoints_that_a_killed_driver_left_are_removed(bench: Bench) -> None:
    """The driver was killed after the last trial, so the study is complete."""
    assert bench.run(make_study()).complete
    (folder,) = (bench.cache / "checkpoints").iterdir()
    checkpoint = folder / "old.safetensors"
    checkpoint.write_bytes(b"checkpoint")
    assert bench.run(make_study()).complete
    assert not checkpoint.exists()


@pytest.mark.faults
def test_consecutive_failures_stop_the_study(
    bench: Bench, run_undisturbed: RunUndisturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    """A summary is printed, and the remaining ones are missing. A success resets the count."""

    def behave(config: TrialConfig, epoch: int) -> None:
        n_ctx = getattr(config.generator, "n_ctx", 0)
        if n_ctx != 3:
            raise OSError(f"no space left {'for images' if n_ctx == 5 else 'on the worker'}")

    study = make_study(
        space={"generator.n_ctx": list(range(1, 9))}, max_consecutive_failures=3, seeds=1
    )
    bench.behave = behave
    outcome = bench.run(study, console=Console(force_terminal=False, width=200))
    assert (outcome.done, outcome.failed, outcome.missing) == (1, 5, 2)
    assert not outcome.complete and not outcome.interrupted
    output = capsys.readouterr().out
    head = "stopped: 3 configurations failed in a row (max_consecutive_failures: 3)"
    assert f"{head}\n  2 x OSError: no space" in output
    assert "  1 x OSError: no space left for images" in output
    assert bench.get_study_run().info.status == "FAILED"
    bench.check_invariants()
    bench.behave = None
    assert bench.run(study).complete
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(study))


def test_too_large_resources_are_refused(bench: Bench) -> None:
    """Tune would wait for them forever. Nothing is written to the store."""
    with pytest.raises(ClusterError, match=r"fit one machine .*, got cpus 64"):
        bench.run(make_study(resources={"cpus": 64}), in_process=False)
    assert not bench.list_runs("small")


@pytest.mark.faults
def test_workers_that_cannot_start_end_the_run(ray_bench: Bench) -> None:
    """The error is one line instead of a failure per trial."""
    trap = make_unpickling_trap(make_raiser(RuntimeError("this worker lacks something")))
    ray_bench.behave = lambda config, epoch: print(trap)
    with pytest.raises(ClusterError, match=r"no worker can start: .*this worker lacks something"):
        ray_bench.run(make_study())


@pytest.mark.faults
def test_interrupt_leaves_an_open_ray_session_usable(ray_bench: Bench) -> None:
    """Workers and their resources are released in a session that the caller opened."""
    study = make_study(max_concurrent_trials=None, seeds=1)
    ray_bench.behave = make_sleeping_behavior(3.0)

    def interrupt() -> None:
        wait_for(lambda: bool(ray_bench.list_started()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=interrupt)
    thread.start()
    outcome = ray_bench.run(study)
    thread.join()
    assert outcome.interrupted and outcome.missing >= 1
    ray_bench.check_invariants()
    ray_bench.behave = None
    assert ray_bench.run(study).complete


def test_interrupted_proposal_is_resumed(bench: Bench) -> None:
    """The configuration is neither lost nor proposed again."""
    space = {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}}
    study = make_study(space=space, sampler="tpe", n_trials=3, checkpoint_every=0)
    marker = get_marker(bench)

    def behave(config: TrialConfig, epoch: int) -> None:
        if epoch == 3 and not marker.exists():
            marker.touch()
            signal.raise_signal(signal.SIGINT)

    bench.behave = behave
    assert bench.run(study).interrupted
    assert bench.list_states() == ["INTERRUPTED"]
    bench.check_invariants()
    (interrupted_key,) = {run.data.tags["ship.config_key"] for run in bench.list_trials()}
    assert bench.run(study).complete
    assert "resumed after" in bench.log.read_text()
    complete = [run for run in bench.list_trials() if run.data.tags["ship.state"] == "COMPLETE"]
    assert len(complete) == 3
    assert interrupted_key in {run.data.tags["ship.config_key"] for run in complete}
    bench.check_invariants()
