"""Studies whose trials are cut short and go on from their checkpoints."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.tuning.retry_policy import WORKER_RETRIES
from ship.trial_config import TrialConfig
from tests.harness import fakes
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study


def curves(bench: Bench) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Of each complete run, by its name: every metric's points, but for time."""
    client = bench.store().client
    found = {}
    for run in bench.trials():
        if run.data.tags["ship.state"] == "COMPLETE":
            found[run.info.run_name] = {
                name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
                if not name.startswith("cost/")
            }
    return found


def undisturbed(bench: Bench) -> Any:
    """The same study in a store of its own."""
    folder = bench.log.parent
    quiet = replace(
        bench,
        uri=f"sqlite:///{folder}/quiet.db",
        log=folder / "quiet",
        cache=folder / "quiet-cache",
        behave=None,
    )
    assert quiet.run(make_study(checkpoint_every=None)).complete
    return curves(quiet)


def went_on(bench: Bench) -> list[str]:
    """What trials said of the checkpoints they went on from."""
    return [line for line in bench.log.read_text().splitlines() if line.startswith("went on")]


@pytest.mark.faults
def test_a_killed_workers_trial_goes_on_from_its_checkpoint(
    ray_bench: Bench, tmp_path: Path
) -> None:
    """Its new run has the whole curve, and the table is the undisturbed one."""
    mark = tmp_path / "killed"

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2 and epoch == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    ray_bench.behave = behave
    assert ray_bench.run(make_study(checkpoint_every=0)).complete
    assert went_on(ray_bench) == ["went on behind 3 epochs"]
    assert ray_bench.states() == ["COMPLETE"] * 3 + ["INTERRUPTED"]
    ray_bench.check_invariants()
    assert curves(ray_bench) == undisturbed(ray_bench)
    assert not list((ray_bench.cache / "checkpoints").rglob("*.*"))


@pytest.mark.faults
def test_a_worker_may_die_while_it_takes_a_checkpoint(ray_bench: Bench, tmp_path: Path) -> None:
    """The one before is gone on from."""
    mark = tmp_path / "killed"

    def fragile(*given: Any) -> Any:
        run = method.run_trial(*given)

        class Fragile:
            """Its second checkpoint is its worker's death."""

            taken = 0

            def __iter__(self) -> object:
                return self

            def __next__(self) -> object:
                return next(run)

            def checkpoint(self) -> object:
                found = run.checkpoint()  # type: ignore[attr-defined]
                self.taken += 1
                if self.taken == 2 and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

        return Fragile()

    method = fakes.make_method(ray_bench.log)
    study = make_study(checkpoint_every=0)
    outcome = ray_bench.run(study, method=replace(method, run_trial=fragile))
    assert outcome.complete, [run.data.tags.get("ship.reason") for run in ray_bench.trials()]
    assert mark.exists()
    assert went_on(ray_bench) == ["went on behind 2 epochs"]
    ray_bench.check_invariants()
    assert curves(ray_bench) == undisturbed(ray_bench)


@pytest.mark.faults
def test_the_next_run_of_the_command_goes_on_too(bench: Bench, tmp_path: Path) -> None:
    """Where the driver stopped; here its trial's worker was lost as often as it may be."""
    deaths = tmp_path / "deaths"

    def behave(config: TrialConfig, epoch: int) -> None:
        done = len(deaths.read_text()) if deaths.exists() else 0
        if (
            getattr(config.generator, "n_ctx", 0) == 2
            and epoch == 2 + done
            and done <= WORKER_RETRIES
        ):
            with deaths.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)

    bench.behave = behave
    assert bench.run(make_study(checkpoint_every=0)).failed == 1
    assert went_on(bench) == ["went on behind 2 epochs"]
    assert bench.run(make_study()).complete
    assert went_on(bench)[1:] == ["went on behind 3 epochs"]
    bench.check_invariants()
    assert curves(bench) == undisturbed(bench)
    assert not list((bench.cache / "checkpoints").rglob("*.*"))


@pytest.mark.faults
def test_an_interrupted_proposal_goes_on(bench: Bench, tmp_path: Path) -> None:
    """A sampler's setting that a driver left half done is not lost, nor asked for anew."""
    space = {"generator.kl_weight": {"low": 1e-4, "high": 1.0, "log": True}}
    study = make_study(space=space, sampler="tpe", trials=3, checkpoint_every=0)
    mark = tmp_path / "hangs"

    def behave(config: TrialConfig, epoch: int) -> None:
        if epoch == 3 and not mark.exists():
            mark.touch()
            time.sleep(3600)

    def stop() -> None:
        end = time.monotonic() + 120
        while not mark.exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    bench.behave = behave
    thread = threading.Thread(target=stop)
    thread.start()
    assert bench.run(study).interrupted
    thread.join()
    cut = {r.data.tags["ship.setting_key"] for r in bench.trials()} - {
        r.data.tags["ship.setting_key"]
        for r in bench.trials()
        if r.data.tags["ship.state"] == "COMPLETE"
    }
    assert cut
    bench.behave = None
    assert bench.run(study).complete
    assert went_on(bench)
    done = [r for r in bench.trials() if r.data.tags["ship.state"] == "COMPLETE"]
    assert cut <= {run.data.tags["ship.setting_key"] for run in done}
    assert len(done) == 3
    bench.check_invariants()
