"""Drivers of a study in its own folders, as processes that can be killed."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.harness.conftest import Bench

ROOT = Path(__file__).parents[2]
SECONDS_PER_EPOCH = 0.3
STUDY = {"checkpoint_every": 0.0}  # one at every chance
LONGEST = 300.0

Uris = Callable[[str], tuple[str, str]]

DRIVERS = multiprocessing.get_context("forkserver")
# What a driver imports takes half of its processor time, and leaves nothing if it is killed: it is
# imported once, by the process that all drivers are forked from.
PRELOADED = (
    "tests.harness.driver",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "harness.ray",
    "harness.recording",
    "harness.study",
    "harness.tuning",
    "harness.worker",
)


def drive(arguments: list[str], configurations: Mapping[str, str], output: Path) -> None:
    """Run a driver in this process.

    Args:
        arguments: Arguments of tests.harness.driver.
        configurations: Environment variables.
        output: File for its output.
    """
    from tests.harness import driver

    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, where the soak runs under it, ignores it
    os.environ.update(configurations)
    tempfile.tempdir = None  # what was read from the environment before
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.chdir(ROOT)
    sys.exit(driver.main(*arguments))


@dataclass
class Place:
    """A study's folders and store.

    Attributes:
        uri: Address of the store for drivers.
        seen: Address of the store for checks.
        ray: Folder of Ray's sockets and logs, with a short path.
    """

    name: str
    folder: Path
    ray: Path
    uri: str
    seen: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    runs: int = 0

    def start(self) -> BaseProcess:
        """Start a driver in its own process group. All of its descendants are marked."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.runs += 1
        paths = [self.uri, *(str(self.folder / name) for name in ("log", "cache"))]
        fault = json.dumps({"study": {**STUDY, "name": self.name}})
        configurations = {
            "SHIP_TEST_MARK": self.mark,
            "TMPDIR": str(self.folder / "tmp"),
            "RAY_TMPDIR": str(self.ray),
        }
        arguments = [*paths, f"{SECONDS_PER_EPOCH}", fault]
        process = DRIVERS.Process(target=drive, args=(arguments, configurations, self.output))
        process.start()
        return process

    @property
    def output(self) -> Path:
        """File with the last driver's output."""
        return self.folder / f"{self.runs}.txt"

    def bench(self) -> Bench:
        """Return a bench that reads the store."""
        return Bench(self.seen, self.folder / "log", self.folder / "cache")


def kill(process: BaseProcess, whom: str) -> None:
    """Kill a driver or its whole process group, or close its terminal."""
    if process.pid is None:
        raise RuntimeError("it was not started")
    with suppress(ProcessLookupError):  # it has just ended, or has no group of its own yet
        if whom == "group":
            os.killpg(process.pid, signal.SIGKILL)
        if whom == "terminal":
            os.killpg(process.pid, signal.SIGHUP)
            process.join(5)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def run_to_end(place: Place) -> tuple[int, str]:
    """Run a study undisturbed, and return exit code and output."""
    process = place.start()
    process.join(LONGEST)
    code = process.exitcode
    if code is None:
        kill(process, "group")
    return 124 if code is None else code, place.output.read_text(errors="replace")


@contextmanager
def places(folder: Path, uris: Uris) -> Iterator[Callable[[str], Place]]:
    """Return a function that creates places for studies, and remove Ray's folders at the end."""
    ray = Path(tempfile.mkdtemp(prefix="ship-", dir="/tmp"))

    def make(name: str) -> Place:
        (folder / name).mkdir()
        return Place(name, folder / name, ray, *uris(name))

    try:
        yield make
    finally:
        shutil.rmtree(ray, ignore_errors=True)
