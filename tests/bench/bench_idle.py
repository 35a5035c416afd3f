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
from tests.bench.idle_parts import idle_study, searching, writing
from tests.bench.markdown import of_fields
from tests.harness import fakes

MARKS = 5  # of a study's trials, evenly
MIB = 2**20


@dataclass(frozen=True)
class Mark:
    """Intermediate state of a study.

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


def watch(log: Path, ends: Sequence[int], over: threading.Event) -> Iterator[Mark]:
    """Yield a mark when each number of trials has ended, until the study is over."""
    began, spent = time.monotonic(), time.process_time()
    left = list(ends)
    while left and not over.wait(0.2):
        ended = log.read_bytes().count(b"\n") if log.exists() else 0
        if ended >= left[0]:
            left = [end for end in left if end > ended]
            memory = psutil.Process().memory_info().rss / MIB
            yield Mark(ended, time.monotonic() - began, time.process_time() - spent, memory)


def whole_study(trials: int, epochs: int, folder: Path) -> list[Mark]:
    """Run a study with Ray, and return a mark after each part of it.

    Args:
        trials: Number of trials, a multiple of 20.
        epochs: Number of selection epochs per trial, all of which are reported.
        folder: Folder of its store.
    """
    for module in (fakes, idle_method):
        ray.cloudpickle.register_pickle_by_value(module)
    log = folder / "log"
    ends = [1, *(trials * (n + 1) // MARKS for n in range(MARKS))]
    over = threading.Event()
    with ThreadPoolExecutor() as pool:
        marks = pool.submit(lambda: list(watch(log, ends, over)))
        try:
            run_study(
                idle_study(trials),
                data_root=None,
                tracking_uri=f"sqlite:///{folder}/mlflow.db",
                cache_dir=folder / "cache",
                method=idle_method.idle_method(log, epochs),
                console=Console(quiet=True),
            )
        finally:
            over.set()
    return marks.result()


def main(words: Sequence[str] | None = None) -> None:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=int, help="trials of a study through Ray")
    parser.add_argument("--search", type=int, nargs="*", default=(), help="earlier trials")
    parser.add_argument("--asked", type=int, default=20, help="trials that the searcher suggests")
    parser.add_argument("--store", type=int, help="runs to write")
    parser.add_argument("--epochs", type=int, default=200, help="selection epochs of a trial")
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
            runs = writing(options.store, options.epochs, folder)
            print(of_fields(list(runs)), flush=True)
        if options.study:
            print(of_fields(whole_study(options.study, options.epochs, folder)), flush=True)


if __name__ == "__main__":
    main()
