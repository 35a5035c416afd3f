"""python -m tests.soak [TRIALS]: a long study whose workers are killed at random, and its memory.

`drivers [STUDIES [KILLS [AT_ONCE]]]`, or `server` with the same arguments, kill drivers instead of
workers: tests.killed_drivers.soak.

Tiny trials of the analytic method run with Ray, MLflow and reports. One worker in twenty kills
itself in its first attempt, and others are killed from outside. Prints the driver's resident memory
meanwhile, and exits with 1 unless the run history is exact.
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
from tests.harness.listening import command
from tests.killed_drivers.soak import KINDS, soak_drivers

# Studies, kills of each at most, studies at once.
DEFAULTS = (50, 4, 2)
KILLED = 0.05
# Between two kills from outside. No trial is hit twice: it would fail, and rightly so.
EVERY_SECONDS = 5.0


def soak_study(trials: int) -> StudyConfig:
    """Return a study with one seed per configuration."""
    levels = [round(0.001 * number, 6) for number in range(1, trials + 1)]
    return fakes.make_study(space={"generator.kl_weight": levels}, seeds=1, max_concurrent_trials=2)


def behave_in(folder: Path) -> fakes.Behavior:
    """Return a behavior: workers write their IDs, and some kill themselves once."""

    def behave(config: TrialConfig, epoch: int) -> None:
        key = f"{getattr(config.generator, 'kl_weight', 0):.6f}"
        first, lost = folder / f"{key}.first", folder / f"{key}.lost"
        here = folder / f"{os.getpid()}.pid"
        if epoch == 1:
            here.write_text(key)
        time.sleep(0.1)
        if epoch == fakes.EPOCHS:
            here.unlink()  # from here on it may have another setting any moment
        if epoch == 2 and not first.exists():
            first.touch()
            if random.Random(key).random() < KILLED and not lost.exists():
                lost.write_text("itself")
                os.kill(os.getpid(), signal.SIGKILL)

    return behave


@dataclass
class Watch:
    """Thread that prints the driver's memory and kills workers."""

    bench: Bench
    _marks: list[int] = field(default_factory=lambda: [50, 150, 300])
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        draw, folder = random.Random(0), self.bench.log.parent
        due = time.monotonic() + EVERY_SECONDS
        while not self._over.wait(0.02):
            if self._marks and len(list(folder.glob("*.first"))) >= self._marks[0] - 1:
                resident = psutil.Process().memory_info().rss / 2**20
                print(f"{self._marks.pop(0)} trials: {resident:.0f} MiB", flush=True)
            if time.monotonic() < due:
                continue
            living = [file for file in sorted(folder.glob("*.pid")) if may_be_killed(file)]
            if living:
                file = draw.choice(living)
                os.kill(int(file.stem), signal.SIGKILL)
                due = time.monotonic() + EVERY_SECONDS
                if file.exists():
                    file.with_name(f"{file.read_text()}.lost").write_text("outside")


def may_be_killed(file: Path) -> bool:
    """Return True if a process is a Ray worker whose configuration has not been killed yet."""
    try:
        key = file.read_text()
    except OSError:
        return False
    lost = file.with_name(f"{key}.lost")
    return command(int(file.stem)).startswith("ray::") and bool(key) and not lost.exists()


def check(bench: Bench, trials: int) -> None:
    """Check that history and reports have every configuration once, with its number."""
    bench.check_invariants()
    states = Counter(run.data.tags["ship.state"] for run in bench.trials())
    assert states["COMPLETE"] == trials, states
    assert set(states) <= {"COMPLETE", "INTERRUPTED"}, states
    constants = soak_study(trials).base
    for run in bench.history().runs:
        for seed, value in run.objective.items():
            weight = {"kl_weight": float(run.assignment["generator.kl_weight"])}
            generator = constants.generator.model_copy(update=weight)
            expected = fakes.truth(constants.model_copy(update={"generator": generator}), seed)
            assert math.isclose(value, expected, abs_tol=1e-9), (weight, value, expected)
    rows = load_records("small", bench.uri).rows
    assert rows["state"].to_list() == ["COMPLETE"] * trials
    print(f"runs: {dict(states)}")


def soak(trials: int, folder: Path) -> None:
    """Run the study under kills, and check its content."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    uri = f"sqlite:///{folder}/mlflow.db"
    bench = Bench(uri, folder / "log", folder / "cache", behave_in(folder), ray=True)
    study = soak_study(trials)
    began = time.monotonic()
    with Watch(bench):
        outcome = bench.run(study, console=Console(quiet=True))
    assert outcome.complete, outcome
    check(bench, trials)
    killed = Counter(note.read_text() for note in folder.glob("*.lost"))
    print(f"killed: {dict(killed)}; {time.monotonic() - began:.0f} s")


def main(arguments: list[str]) -> int:
    """Run the requested soak test, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        if arguments and arguments[0] in KINDS:
            kind, *rest = arguments
            count, most, at_once = [*map(int, rest), *DEFAULTS[len(rest) :]]
            return int(not soak_drivers(kind, count, Path(place), most, at_once))
        soak(int(arguments[0]) if arguments else 300, Path(place))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
