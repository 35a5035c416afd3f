"""Cost of a study for its driver, without the trials' work: `python -m tests.bench.bench_idle`.

Trials do nothing (tests.bench.idle_method), so that only Ray Tune, the searcher, the recorder and
the store are measured. Costs are CPU seconds, on which other work has less influence than on
wall-clock seconds.

    --study TRIALS [--epochs N]  a whole study with Ray, with intermediate results
    --search KNOWN ...           only the searcher, with this many earlier trials
    --store RUNS [--epochs N]    only the recorder, into sqlite, with intermediate results
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from rich.console import Console

from harness.study.run import run_study
from tests.bench import idle_method
from tests.bench.idle_parts import make_idle_study, measure_recorder, measure_searcher
from tests.bench.markdown import format_table
from tests.harness import fakes

N_PARTS = 5  # number of equal parts of a study's trials, each with a row of results
MIB = 2**20


@dataclass(frozen=True)
class StudyCost:
    """Cost of a study so far.

    Attributes:
        ended: Number of trials that have ended.
        wall: Wall-clock seconds since the start.
        driver: CPU seconds of the driver since the start.
        memory: Resident memory of the driver in MiB.
    """

    ended: int
    wall: float
    driver: float
    memory: float


def watch_study(
    log: Path, milestones: Sequence[int], finished: threading.Event
) -> Iterator[StudyCost]:
    """Yield the cost of a study when it reaches certain numbers of ended trials.

    Args:
        log: File with a line per ended trial.
        milestones: Numbers of ended trials.
        finished: Event that is set at the end of the study.
    """
    wall_start, processor_start = time.monotonic(), time.process_time()
    remaining = list(milestones)
    while remaining and not finished.wait(0.2):
        ended = log.read_bytes().count(b"\n") if log.exists() else 0
        if ended >= remaining[0]:
            remaining = [milestone for milestone in remaining if milestone > ended]
            wall = time.monotonic() - wall_start
            driver = time.process_time() - processor_start
            yield StudyCost(ended, wall, driver, psutil.Process().memory_info().rss / MIB)


def run_whole_study(trials: int, epochs: int, folder: Path) -> list[StudyCost]:
    """Run a study with Ray, and return its cost after each part.

    Args:
        trials: Number of trials, a multiple of 20.
        epochs: Number of selection epochs per trial, all of which are reported.
        folder: Folder of its store.
    """
    for module in (fakes, idle_method):
        ray.cloudpickle.register_pickle_by_value(module)
    log = folder / "log"
    milestones = [1, *(trials * (n + 1) // N_PARTS for n in range(N_PARTS))]
    finished = threading.Event()
    with ThreadPoolExecutor() as pool:
        costs = pool.submit(lambda: list(watch_study(log, milestones, finished)))
        try:
            run_study(
                make_idle_study(trials),
                data_root=None,
                tracking_uri=f"sqlite:///{folder}/mlflow.db",
                cache_dir=folder / "cache",
                method=idle_method.make_idle_method(log, epochs),
                console=Console(quiet=True),
            )
        finally:
            finished.set()
    return costs.result()


def main(words: Sequence[str] | None = None) -> None:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=int, help="trials of a study through Ray")
    parser.add_argument("--search", type=int, nargs="*", default=(), help="earlier trials")
    parser.add_argument(
        "--suggestions", type=int, default=20, help="trials that the searcher suggests"
    )
    parser.add_argument("--store", type=int, help="runs to write")
    parser.add_argument("--epochs", type=int, default=200, help="selection epochs of a trial")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="idle-") as name:
        folder = Path(name)
        if options.search:
            samplers = ("grid", "random", "tpe")
            rows = [
                measure_searcher(sampler, known, options.suggestions, folder)
                for known in options.search
                for sampler in samplers
            ]
            print(format_table(rows), flush=True)
        if options.store:
            runs = measure_recorder(options.store, options.epochs, folder)
            print(format_table(list(runs)), flush=True)
        if options.study:
            print(format_table(run_whole_study(options.study, options.epochs, folder)), flush=True)


if __name__ == "__main__":
    main()
