"""What a study costs its driver beside the trials' work: `python -m tests.bench.bench_idle`.

Trials do nothing (tests.bench.idle_method), so that what is left is Ray Tune, the searcher, the
recorder and the store. Costs are processor seconds, which a busy machine changes less than it
changes seconds of the clock.

    --study TRIALS [--epochs N]  a whole study through Ray, with marks on its way
    --search KNOWN ...           the searcher alone, with so many earlier trials
    --store RUNS [--epochs N]    the recorder alone, into sqlite, with marks on its way
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from rich.console import Console

from harness.study.run import run_study
from tests.bench import idle_method
from tests.bench.idle_parts import idle_study, searching, writing
from tests.bench.markdown import of_fields
from tests.harness import fakes

MARKS = 5  # of a study's trials, evenly
MIB = 2**20
RAY_ITSELF = ("raylet", "gcs_server")


@dataclass(frozen=True)
class Mark:
    """A study on its way.

    ended: trials that are over.
    wall, driver: seconds of the clock, and of the driver's processor, since the one before it.
    ray: processor seconds of Ray's own processes since then; workers are not among them.
    memory: resident memory of the driver, MiB.
    """

    ended: int
    wall: float
    driver: float
    ray: float
    memory: float


class Watch:
    """Takes marks from the side while a study runs."""

    def __init__(self, log: Path, ends: Sequence[int]) -> None:
        self.marks: list[Mark] = []
        self._log, self._ends = log, list(ends)
        self._before = (0, 0.0, 0.0, 0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        begun = False
        while not self._over.wait(0.2):
            ended = self._log.read_bytes().count(b"\n") if self._log.exists() else 0
            if ended and not begun:
                begun = True
                self._before = (ended, *_spent())
            while self._ends and ended >= self._ends[0]:
                del self._ends[0]
                self._mark(ended)

    def _mark(self, ended: int) -> None:
        now = _spent()
        wall, driver, ray_itself = (a - b for a, b in zip(now, self._before[1:], strict=True))
        memory = psutil.Process().memory_info().rss / MIB
        self.marks.append(Mark(ended, wall, driver, ray_itself, memory))
        self._before = (ended, *now)


def _spent() -> tuple[float, float, float]:
    """Seconds of the clock, of this process's processor, and of that of Ray's own processes."""
    others = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name() in RAY_ITSELF:
                times = child.cpu_times()
                others += times.user + times.system
        except psutil.Error:  # it has ended
            continue
    return time.monotonic(), time.process_time(), others


def whole_study(trials: int, epochs: int, folder: Path) -> list[Mark]:
    """Run a study through Ray; a mark after each part of it.

    Args:
        trials: a multiple of twenty.
        epochs: of selection in each, all of which are reported.
        folder: for its store.
    """
    for module in (fakes, idle_method):
        ray.cloudpickle.register_pickle_by_value(module)
    log = folder / "log"
    ends = [trials * (n + 1) // MARKS for n in range(MARKS)]
    with Watch(log, ends) as watch:
        run_study(
            idle_study(trials),
            data_root=None,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            cache_dir=folder / "cache",
            method=idle_method.idle_method(log, epochs),
            console=Console(quiet=True),
        )
    return watch.marks


def main(words: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=int, help="trials of a study through Ray")
    parser.add_argument("--search", type=int, nargs="*", default=(), help="earlier trials")
    parser.add_argument("--asked", type=int, default=20, help="trials that the searcher gives out")
    parser.add_argument("--store", type=int, help="runs that are written")
    parser.add_argument("--epochs", type=int, default=200, help="selection epochs of a trial")
    parser.add_argument("--flushes", type=int, default=10, help="writes of a run on its way")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="idle-") as name:
        folder = Path(name)
        if options.search:
            samplers = ("grid", "random", "tpe")
            rows = [
                searching(sampler, known, options.asked, folder)
                for known in options.search
                for sampler in samplers
            ]
            print(of_fields(rows), flush=True)
        if options.store:
            runs = writing(options.store, options.epochs, options.flushes, folder)
            print(of_fields(list(runs)), flush=True)
        if options.study:
            print(of_fields(whole_study(options.study, options.epochs, folder)), flush=True)


if __name__ == "__main__":
    main()
