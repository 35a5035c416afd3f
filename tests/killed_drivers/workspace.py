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
STUDY = {"checkpoint_every": 0.0}  # a checkpoint after each epoch
MAX_SECONDS = 300.0

GetUris = Callable[[str], tuple[str, str]]

DRIVER_CONTEXT = multiprocessing.get_context("forkserver")
# Imports take half of a driver's CPU time, and killing a driver during them tests nothing. They are
# therefore made once, by the process that all drivers are forked from.
PRELOADED_MODULES = (
    "tests.harness.driver",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "harness.ray",
    "harness.recording",
    "harness.study",
    "harness.tuning",
    "harness.worker",
)


def run_driver(arguments: list[str], environment: Mapping[str, str], output: Path) -> None:
    """Run a driver in this process.

    Args:
        arguments: Arguments of tests.harness.driver.
        environment: Environment variables to set.
        output: File for its output.
    """
    from tests.harness import driver

    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored if the soak runs under nohup
    os.environ.update(environment)
    tempfile.tempdir = None  # forget the folder that was read from the previous environment
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.chdir(ROOT)
    sys.exit(driver.main(*arguments))


@dataclass
class Workspace:
    """A study's folders and store.

    Attributes:
        name: Name of the study.
        folder: Folder of logs, cache and temporary files.
        ray_folder: Folder of Ray's sockets and logs, with a short path.
        driver_uri: Address of the store for drivers.
        check_uri: Address of the store for checks.
        mark: Value of an environment variable by which all processes of the drivers are found.
        n_starts: Number of drivers started so far.
    """

    name: str
    folder: Path
    ray_folder: Path
    driver_uri: str
    check_uri: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    n_starts: int = 0

    def start(self) -> BaseProcess:
        """Start a driver in its own process group. All of its descendants are marked."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.n_starts += 1
        paths = [self.driver_uri, *(str(self.folder / name) for name in ("log", "cache"))]
        changes = json.dumps({"study": {**STUDY, "name": self.name}})
        environment = {
            "SHIP_TEST_MARK": self.mark,
            "TMPDIR": str(self.folder / "tmp"),
            "RAY_TMPDIR": str(self.ray_folder),
        }
        arguments = [*paths, f"{SECONDS_PER_EPOCH}", changes]
        process = DRIVER_CONTEXT.Process(
            target=run_driver, args=(arguments, environment, self.output)
        )
        process.start()
        return process

    @property
    def output(self) -> Path:
        """File with the last driver's output."""
        return self.folder / f"{self.n_starts}.txt"

    def make_bench(self) -> Bench:
        """Return a bench that reads the store."""
        return Bench(self.check_uri, self.folder / "log", self.folder / "cache")


def kill_driver(process: BaseProcess, target: str) -> None:
    """Kill a driver.

    Args:
        process: The driver.
        target: "driver" to kill only this process, "group" for its whole process group, or
            "terminal" to send SIGHUP to the group first, as if its terminal was closed.
    """
    if process.pid is None:
        raise RuntimeError("the driver was not started")
    with suppress(ProcessLookupError):  # it has just ended, or is not yet a group leader
        if target == "group":
            os.killpg(process.pid, signal.SIGKILL)
        if target == "terminal":
            os.killpg(process.pid, signal.SIGHUP)
            process.join(5)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def run_to_end(workspace: Workspace) -> tuple[int, str]:
    """Run a driver to its end. Return its exit code (124 after MAX_SECONDS) and its output."""
    process = workspace.start()
    process.join(MAX_SECONDS)
    code = process.exitcode
    if code is None:
        kill_driver(process, "group")
    return 124 if code is None else code, workspace.output.read_text(errors="replace")


@contextmanager
def open_workspaces(folder: Path, get_uris: GetUris) -> Iterator[Callable[[str], Workspace]]:
    """Yield a function that creates workspaces, and delete Ray's folder at the end.

    Args:
        folder: Folder of all workspaces.
        get_uris: Function that returns the store's addresses for drivers and for checks, for the
            name of a study.
    """
    ray_folder = Path(tempfile.mkdtemp(prefix="ship-", dir="/tmp"))

    def make_workspace(name: str) -> Workspace:
        (folder / name).mkdir()
        return Workspace(name, folder / name, ray_folder, *get_uris(name))

    try:
        yield make_workspace
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
