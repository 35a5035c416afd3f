"""Studies in which something breaks: what is recorded, and what the next run does."""

import os
import signal
import time
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from harness.errors import ClusterError
from harness.recording.trial_runs import TrialRecorder
from harness.store.errors import StoreError
from ship.metrics import NonFiniteLoss
from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study, sleepy, trap_elsewhere


def test_a_non_finite_trial_fails_with_a_reason_and_is_settled(bench: Bench) -> None:
    """It has a reason and no number, the others go on, and it is not run again."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2 and epoch == 2:
            raise NonFiniteLoss("loss is not finite at stage selection, epoch 2", [0, 1])

    bench.behave = behave
    outcome = bench.run(make_study())
    assert (outcome.done, outcome.failed, outcome.missing) == (2, 1, 0)
    assert not outcome.complete
    (failed,) = [run for run in bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["ship.reason"] == (
        "loss is not finite at stage selection, epoch 2 (seeds 0, 1)"
    )
    assert "objective" not in failed.data.metrics
    again = bench.run(make_study())
    assert not again.ran
    assert again.failed == 1
    bench.check_invariants()


@pytest.mark.faults
def test_an_exception_fails_the_trial_and_is_tried_again(bench: Bench) -> None:
    """The worker lives on; the next run of the command tries the setting again."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 1:
            raise RuntimeError("out of luck\nand more")

    bench.behave = behave
    outcome = bench.run(make_study())
    assert (outcome.done, outcome.failed) == (2, 1)
    (failed,) = [run for run in bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    reason = "RuntimeError: out of luck (at stage selection_generator, epoch 1)"
    assert failed.data.tags["ship.reason"] == reason
    bench.behave = None
    first = len(bench.lines())
    assert bench.run(make_study()).complete
    assert len(bench.lines()) == first + 2
    bench.check_invariants()


def test_a_killed_worker_is_tried_again_without_double_rows(
    ray_bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 of a worker costs time, nothing else; Ray's page on it is not printed."""
    mark = tmp_path / "killed"

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2 and epoch == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    ray_bench.behave = behave
    assert ray_bench.run(make_study()).complete
    assert ray_bench.states() == ["COMPLETE"] * 3 + ["INTERRUPTED"]
    assert "worker died" not in capsys.readouterr().out
    ray_bench.check_invariants()


@pytest.mark.faults
def test_a_worker_killed_twice_fails_its_trial(ray_bench: Bench) -> None:
    """The rest of the study is not held up."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    ray_bench.behave = behave
    outcome = ray_bench.run(make_study())
    assert (outcome.done, outcome.failed) == (2, 1)
    assert ray_bench.states() == ["COMPLETE", "COMPLETE", "FAIL", "INTERRUPTED"]
    ray_bench.check_invariants()


@pytest.mark.faults
@pytest.mark.parametrize("hang", ["sleep", "stopped"])
def test_a_trial_past_its_time_limit_fails(ray_bench: Bench, hang: str) -> None:
    """A trial that hangs is ended, also when its process does not answer, and not tried again."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2 and epoch == 2:
            if hang == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)

    ray_bench.behave = behave
    outcome = ray_bench.run(make_study(time_limit=2.5))
    assert (outcome.done, outcome.failed) == (2, 1)
    assert ray_bench.states() == ["COMPLETE", "COMPLETE", "FAIL"]
    (failed,) = [run for run in ray_bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    reason = "time_limit of 2.5 s passed at stage selection, epoch 1"
    assert failed.data.tags["ship.reason"] == reason
    ray_bench.check_invariants()


@pytest.mark.faults
def test_runs_of_a_dead_driver_are_closed(bench: Bench) -> None:
    """A run that was left RUNNING becomes INTERRUPTED, and its setting runs."""
    store = bench.store()
    experiment = store.create_experiment("small")
    tags = {"ship.kind": "trial", "ship.state": "RUNNING", "ship.setting_key": "0" * 16}
    run = store.client.create_run(experiment, tags={**tags, "ship.seeds": "[0]"})
    assert bench.run(make_study()).complete
    closed = store.client.get_run(run.info.run_id)
    assert closed.info.status == "KILLED"
    assert closed.data.tags["ship.state"] == "INTERRUPTED"


def test_more_than_there_is_is_refused(ray_bench: Bench) -> None:
    """Tune would wait for ever; nothing is written for what cannot run."""
    with pytest.raises(ClusterError, match=r"resources.cpus must be at most 2.*got 64") as error:
        ray_bench.run(make_study(resources={"cpus": 64, "gpus": 0.5}))
    assert "resources.gpus" in str(error.value)
    assert not ray_bench.runs("small")


@pytest.mark.faults
def test_a_store_that_breaks_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that cannot be written are not computed further; the next run puts it right."""

    def broken(*_: Any) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(TrialRecorder, "complete", broken)
        with pytest.raises(StoreError, match="the disk is full"):
            bench.run(make_study())
    assert len(bench.lines()) <= 4
    assert bench.run(make_study()).complete
    bench.check_invariants()


@pytest.mark.faults
def test_workers_that_cannot_start_end_the_run(ray_bench: Bench) -> None:
    """One clear line instead of every trial failing in turn."""

    def lacks_something() -> None:
        raise RuntimeError("this worker lacks something")

    trap = trap_elsewhere(lacks_something)
    ray_bench.behave = lambda config, epoch: print(trap)
    with pytest.raises(ClusterError, match=r"no worker can start: .*lacks something"):
        ray_bench.run(make_study())


@pytest.mark.faults
@pytest.mark.parametrize("dies", ["once", "each time"])
def test_first_worker_dies_before_it_takes_a_trial_up(
    ray_bench: Bench, tmp_path: Path, dies: str
) -> None:
    """Another one is tried; where that one dies too, the error says what Ray says."""
    died = tmp_path / "died"

    def die() -> None:
        if dies == "each time" or not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    trap = trap_elsewhere(die)
    ray_bench.behave = lambda config, epoch: str(trap)
    study = make_study(concurrency=1)
    if dies == "each time":
        with pytest.raises(ClusterError, match=r"no worker can start: .*The actor died unexpected"):
            ray_bench.run(study)
    else:
        assert ray_bench.run(study).complete
        reasons = [run.data.tags.get("ship.reason", "") for run in ray_bench.trials()]
        assert sum("tried again" in reason for reason in reasons) == 1
        ray_bench.check_invariants()


@pytest.mark.faults
def test_an_interrupt_leaves_a_shared_ray_usable(ray_bench: Bench) -> None:
    """In a session that somebody else opened, workers and their resources are given back."""
    ray_bench.behave = sleepy(3.0)
    timer = Timer(8.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    outcome = ray_bench.run(make_study(concurrency=None, seeds=1))
    timer.cancel()
    assert outcome.interrupted
    assert outcome.missing >= 1
    ray_bench.check_invariants()
    ray_bench.behave = None
    assert ray_bench.run(make_study(concurrency=None, seeds=1)).complete
