"""Soak tests: long runs in which workers or drivers are killed at random.

    python -m tests.soak [TRIALS]                                  kill workers of one study
    python -m tests.soak drivers [STUDIES [KILLS [CONCURRENT]]]    kill drivers, with SQLite
    python -m tests.soak server [STUDIES [KILLS [CONCURRENT]]]     the same with a tracking server

The first one runs a study of tiny trials with Ray, MLflow and reports. One worker in twenty kills
itself in its first attempt, and others are killed from outside. The driver's resident memory is
printed from time to time. The exit code is 1 unless every configuration has its correct results.
The other two are in tests.killed_drivers.soak.
"""

import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import ray
from rich.console import Console

from harness.config.study_config import StudyConfig
from reports.study.load import load_records
from ship.trial_config import TrialConfig
from tests.harness import fakes
from tests.harness.conftest import Bench
from tests.harness.processes import get_command_line
from tests.killed_drivers.soak import KINDS, soak_drivers

# Default number of studies, maximum number of kills per study, number of concurrent studies.
DEFAULTS = (50, 4, 2)
# Probability that a worker kills itself in the first attempt of a trial.
KILL_PROBABILITY = 0.05
# Seconds between two kills from outside. No trial is killed twice, because it would then fail.
SECONDS_BETWEEN_KILLS = 5.0


def make_soak_study(trials: int) -> StudyConfig:
    """Return a study with one seed per configuration."""
    levels = [round(0.001 * number, 6) for number in range(1, trials + 1)]
    return fakes.make_study(space={"generator.kl_weight": levels}, seeds=1, max_concurrent_trials=2)


def make_behavior(folder: Path) -> fakes.Behavior:
    """Return a behavior of trials in which some workers kill themselves once.

    Args:
        folder: Folder for files: PID.pid contains the configuration of a running worker, KEY.first
            exists after the first attempt of a configuration, and KEY.lost after its worker was
            killed.
    """

    def behave(config: TrialConfig, epoch: int) -> None:
        key = f"{getattr(config.generator, 'kl_weight', 0):.6f}"
        first, lost = folder / f"{key}.first", folder / f"{key}.lost"
        pid_file = folder / f"{os.getpid()}.pid"
        if epoch == 1:
            pid_file.write_text(key)
        time.sleep(0.1)
        if epoch == fakes.EPOCHS:
            pid_file.unlink()  # after its last epoch, the worker may start another configuration
        if epoch == 2 and not first.exists():
            first.touch()
            if random.Random(key).random() < KILL_PROBABILITY and not lost.exists():
                lost.write_text("itself")
                os.kill(os.getpid(), signal.SIGKILL)

    return behave


@dataclass
class WorkerKiller:
    """Thread that kills workers, and prints the driver's memory after some numbers of trials."""

    bench: Bench
    _milestones: list[int] = field(default_factory=lambda: [50, 150, 300])
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rng, folder = random.Random(0), self.bench.log.parent
        next_kill = time.monotonic() + SECONDS_BETWEEN_KILLS
        while not self._stop.wait(0.02):
            n_started = len(list(folder.glob("*.first")))
            if self._milestones and n_started >= self._milestones[0] - 1:
                memory = psutil.Process().memory_info().rss / 2**20
                print(f"{self._milestones.pop(0)} trials: {memory:.0f} MiB", flush=True)
            if time.monotonic() < next_kill:
                continue
            pid_files = [file for file in sorted(folder.glob("*.pid")) if is_killable(file)]
            if pid_files:
                file = rng.choice(pid_files)
                os.kill(int(file.stem), signal.SIGKILL)
                next_kill = time.monotonic() + SECONDS_BETWEEN_KILLS
                if file.exists():
                    file.with_name(f"{file.read_text()}.lost").write_text("outside")


def is_killable(file: Path) -> bool:
    """Return True if a process is a Ray worker whose configuration has not been killed yet."""
    try:
        key = file.read_text()
    except OSError:
        return False
    lost = file.with_name(f"{key}.lost")
    return get_command_line(int(file.stem)).startswith("ray::") and bool(key) and not lost.exists()


def check_results(bench: Bench, trials: int) -> None:
    """Check that store and report have one correct result per configuration."""
    bench.check_invariants()
    states = Counter(run.data.tags["ship.state"] for run in bench.list_trials())
    assert states["COMPLETE"] == trials, states
    assert set(states) <= {"COMPLETE", "INTERRUPTED"}, states
    base = make_soak_study(trials).base
    for run in bench.read_history().runs:
        for seed, value in run.objective.items():
            weight = {"kl_weight": float(run.assignment["generator.kl_weight"])}
            generator = base.generator.model_copy(update=weight)
            expected = fakes.compute_result(base.model_copy(update={"generator": generator}), seed)
            assert math.isclose(value, expected, abs_tol=1e-9), (weight, value, expected)
    rows = load_records("small", bench.uri).rows
    assert rows["state"].to_list() == ["COMPLETE"] * trials
    print(f"runs: {dict(states)}")


def soak_workers(trials: int, folder: Path) -> None:
    """Run the study while workers are killed, and check its results."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    uri = f"sqlite:///{folder}/mlflow.db"
    bench = Bench(uri, folder / "log", folder / "cache", make_behavior(folder), ray=True)
    study = make_soak_study(trials)
    start = time.monotonic()
    with WorkerKiller(bench):
        outcome = bench.run(study, console=Console(quiet=True))
    assert outcome.complete, outcome
    check_results(bench, trials)
    kills = Counter(file.read_text() for file in folder.glob("*.lost"))
    print(f"killed: {dict(kills)}; {time.monotonic() - start:.0f} s")


def main(arguments: list[str]) -> int:
    """Run the requested soak test, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        if arguments and arguments[0] in KINDS:
            kind, *numbers = arguments
            n_studies, max_kills, n_concurrent = [*map(int, numbers), *DEFAULTS[len(numbers) :]]
            return int(not soak_drivers(kind, n_studies, Path(folder), max_kills, n_concurrent))
        soak_workers(int(arguments[0]) if arguments else 300, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
