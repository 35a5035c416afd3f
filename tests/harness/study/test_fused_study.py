"""Studies whose settings are fused, on a real Ray: the ledger is as if they were not."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from ship.metrics import NonFiniteLoss
from ship.trial_config import TrialConfig
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study, sleepy

KL = {"generator.kl_weight": [0.001, 0.01, 0.1, 1.0]}


def study(**keys: Any) -> StudyConfig:
    """Four settings of one shape, all in one Ray trial."""
    return make_study(**{"space": KL, "fuse": 4, **keys})


def values(bench: Bench) -> dict[Any, Any]:
    """(setting, seed) -> objective."""
    return {
        (str(run.assignment), seed): value
        for run in bench.ledger().runs
        for seed, value in run.objective.items()
    }


def test_the_ledger_is_as_if_nothing_were_fused(ray_bench: Bench) -> None:
    """A run, a state and numbers for each setting, and a second run finds nothing to do."""
    outcome = ray_bench.run(study())
    assert outcome.complete and outcome.done == 4
    fused, lines = values(ray_bench), ray_bench.lines()
    assert {run.data.tags["ship.fused"] for run in ray_bench.trials()} == {"4"}
    assert not ray_bench.run(study(fuse="off")).ran
    ray_bench.check_invariants()
    assert ray_bench.run(make_study(name="apart", space=KL, fuse="off")).complete
    assert len(ray_bench.lines()) == 2 * len(lines)
    apart = {
        (str(run.assignment), seed): value
        for run in ray_bench.ledger("apart").runs
        for seed, value in run.objective.items()
    }
    assert apart == pytest.approx(fused)


def test_one_setting_that_is_not_finite_fails_alone(ray_bench: Bench) -> None:
    """The others run again together, and lose nothing but time."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "kl_weight", 0) == 0.1 and epoch == 2:
            places = [2 * 2, 2 * 2 + 1]  # the third of four settings, two seeds each
            raise NonFiniteLoss("loss is not finite at stage selection, epoch 2", places)

    ray_bench.behave = behave
    outcome = ray_bench.run(study())
    assert (outcome.done, outcome.failed, outcome.missing) == (3, 1, 0)
    assert ray_bench.states() == ["COMPLETE"] * 3 + ["FAIL"] + ["INTERRUPTED"] * 3
    (failed,) = [run for run in ray_bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    reason = "loss is not finite at stage selection, epoch 2 (seeds 0, 1)"
    assert failed.data.tags["ship.reason"] == reason
    assert failed.data.params["generator.kl_weight"] == "0.1"
    assert not ray_bench.run(study()).ran
    ray_bench.check_invariants()


def test_a_fault_in_one_of_them_is_found(ray_bench: Bench) -> None:
    """By halves: the one that raises fails with its own reason, all others complete."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "kl_weight", 0) == 0.01:
            raise ValueError("out of range")

    ray_bench.behave = behave
    outcome = ray_bench.run(study())
    assert (outcome.done, outcome.failed, outcome.missing) == (3, 1, 0)
    (failed,) = [run for run in ray_bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    assert failed.data.params["generator.kl_weight"] == "0.01"
    assert failed.data.tags["ship.reason"].startswith("ValueError: out of range")
    ray_bench.check_invariants()


@pytest.mark.faults
def test_a_killed_worker_costs_all_of_them_time_alone(ray_bench: Bench, tmp_path: Path) -> None:
    """kill -9 once: tried again as it was, every row there once."""
    mark = tmp_path / "killed"

    def behave(config: TrialConfig, epoch: int) -> None:
        if epoch == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    ray_bench.behave = behave
    assert ray_bench.run(study()).complete
    assert ray_bench.states() == ["COMPLETE"] * 4 + ["INTERRUPTED"] * 4
    ray_bench.check_invariants()


@pytest.mark.faults
def test_a_setting_that_kills_its_worker_is_found(ray_bench: Bench) -> None:
    """As one that eats up the memory would: it fails, the ones beside it do not."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "kl_weight", 0) == 1.0 and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    ray_bench.behave = behave
    outcome = ray_bench.run(study())
    assert (outcome.done, outcome.failed, outcome.missing) == (3, 1, 0)
    (failed,) = [run for run in ray_bench.trials() if run.data.tags["ship.state"] == "FAIL"]
    assert failed.data.params["generator.kl_weight"] == "1.0"
    assert failed.data.tags["ship.failure"] == "worker_died"
    ray_bench.check_invariants()


@pytest.mark.slow
def test_fused_settings_are_pruned_one_by_one(ray_bench: Bench) -> None:
    """The stopped ones are PRUNED without a number, the others beside them complete."""
    ray_bench.behave = sleepy(0.05)
    halved = study(
        space={"generator.kl_weight": [0.01, 0.02, 0.1, 0.5, 0.9, 1.0]},
        scheduler={"name": "asha", "reduction_factor": 2},
        fuse=3,
        seeds=1,
        reference_arms=True,
    )
    outcome = ray_bench.run(halved)
    assert outcome.pruned >= 3 and outcome.missing == outcome.failed == 0
    pruned = [run for run in ray_bench.trials() if run.data.tags["ship.state"] == "PRUNED"]
    assert not any("objective" in run.data.metrics for run in pruned)
    assert all(run.info.status == "FINISHED" for run in pruned)
    best = [
        run for run in ray_bench.trials() if run.data.params.get("generator.kl_weight") == "0.01"
    ]
    assert [run.data.tags["ship.state"] for run in best] == ["COMPLETE"]
    assert not ray_bench.run(halved).ran
    ray_bench.check_invariants()
