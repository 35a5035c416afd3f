"""Studies whose drivers are killed at random times: `python -m tests.soak drivers` or `server`.

The driver of each study is killed several times: only its process, its whole process group, or by
closing its terminal (SIGHUP to the group). The times are random, between the driver's start and its
usual end. A new driver is started immediately, and the last one finishes the study. The result must
equal that of an undisturbed study: the same runs and identical numbers, without remaining processes
or temporary folders.
"""

import random
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.store.open import open_store
from tests.harness.flaky_proxy import FlakyProxy
from tests.harness.servers import MlflowServer
from tests.killed_drivers.study_content import N_CONFIGURATIONS, find_faults, read_content
from tests.killed_drivers.workspace import (
    DRIVER_CONTEXT,
    PRELOADED_MODULES,
    GetUris,
    Workspace,
    kill_driver,
    open_workspaces,
    run_to_end,
)

UNDISTURBED = "undisturbed"
KINDS = ("drivers", "server")
TARGETS = ("driver", "group", "terminal")


@dataclass
class StudyResult:
    """Result of one study.

    Attributes:
        name: Name of the study.
        kills: Description of each kill.
        n_ended: Number of drivers that ended before they were killed.
        faults: Differences from an undisturbed study.
    """

    name: str
    kills: list[str] = field(default_factory=list)
    n_ended: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = "; ".join(self.faults) or "whole"
        return f"{self.name}: {', '.join(self.kills) or 'never killed'}; {faults}"


@dataclass
class UndisturbedStudy:
    """Duration and content of an undisturbed study."""

    seconds: float
    content: dict[str, Any]


def run_with_kills(
    workspace: Workspace, rng: random.Random, max_kills: int, undisturbed: UndisturbedStudy
) -> StudyResult:
    """Kill the drivers of a study several times, then finish it.

    Args:
        workspace: Folders and store of the study.
        rng: Random generator of times and targets.
        max_kills: Maximum number of kills. The minimum is half of it.
        undisturbed: Undisturbed study. Its duration is updated if this one ends before its first
            kill.
    """
    result = StudyResult(workspace.name)
    for number in range(rng.randint((max_kills + 1) // 2, max_kills)):
        delay, target = rng.uniform(0, undisturbed.seconds), rng.choice(TARGETS)
        start = time.monotonic()
        process = workspace.start()
        process.join(delay)
        if process.exitcode is None:
            kill_driver(process, target)
            result.kills.append(f"{target} at {delay:.1f} s")
            continue
        result.n_ended += 1
        if number == 0:
            undisturbed.seconds = time.monotonic() - start
        if process.exitcode:
            output = workspace.output.read_text(errors="replace")
            result.faults.append(f"exit code {process.exitcode}: {output[-600:]}")
    code, output = run_to_end(workspace)
    if code:
        result.faults.append(f"exit code {code} in the end: {output[-600:]}")
    else:
        result.faults += find_faults(workspace, undisturbed.content)
    return result


def soak_studies(
    n_studies: int, folder: Path, get_uris: GetUris, max_kills: int, n_concurrent: int
) -> list[StudyResult]:
    """Run studies whose drivers are killed, and print one line per study.

    Args:
        n_studies: Number of studies.
        folder: Folder of all studies.
        get_uris: See open_workspaces.
        max_kills: Maximum number of kills per study.
        n_concurrent: Number of concurrent studies.
    """
    DRIVER_CONTEXT.set_forkserver_preload(list(PRELOADED_MODULES))
    with open_workspaces(folder, get_uris) as make_workspace:
        workspace = make_workspace(UNDISTURBED)
        start = time.monotonic()
        code, output = run_to_end(workspace)
        seconds = time.monotonic() - start
        if code:
            raise RuntimeError(f"an undisturbed study ended with {code}: {output}")
        content = read_content(workspace.make_bench(), workspace.name)
        if len(content) != N_CONFIGURATIONS + 1:
            raise RuntimeError(f"an undisturbed study has {len(content)} runs")
        undisturbed = UndisturbedStudy(seconds, content)
        print(f"undisturbed: {seconds:.1f} s", flush=True)

        def soak_study(number: int) -> StudyResult:
            rng = random.Random(number)
            result = run_with_kills(make_workspace(f"study-{number}"), rng, max_kills, undisturbed)
            print(result, flush=True)
            return result

        with ThreadPoolExecutor(n_concurrent) as pool:
            return list(pool.map(soak_study, range(n_studies)))


def create_sqlite_store(folder: Path, name: str) -> tuple[str, str]:
    """Create a SQLite store in the study's folder. Return its address for drivers and checks."""
    empty = folder / "empty.db"
    if not empty.exists():
        open_store(f"sqlite:///{empty}")
    shutil.copy(empty, folder / name / "mlflow.db")
    uri = f"sqlite:///{folder}/{name}/mlflow.db"
    return uri, uri


def soak_drivers(
    kind: str, n_studies: int, folder: Path, max_kills: int, n_concurrent: int
) -> bool:
    """Run studies whose drivers are killed, and print a summary.

    Args:
        kind: "drivers" (SQLite), or "server" (a tracking server behind a proxy that damages a tenth
            of the requests).
        n_studies: Number of studies.
        folder: Folder of all studies.
        max_kills: Maximum number of kills per study.
        n_concurrent: Number of concurrent studies.

    Returns:
        True if no study differs from an undisturbed one.
    """
    start = time.monotonic()
    run_studies = partial(soak_studies, n_studies, folder, max_kills=max_kills)
    if kind == "drivers":
        get_uris = partial(create_sqlite_store, folder)
        results = run_studies(get_uris, n_concurrent=n_concurrent)
    else:
        (folder / "server").mkdir()
        server = MlflowServer(f"sqlite:///{folder}/server.db", folder / "server")
        try:
            with FlakyProxy(server.port) as proxy:
                server_uri = f"http://127.0.0.1:{server.port}"

                def get_server_uris(name: str) -> tuple[str, str]:
                    return server_uri if name == UNDISTURBED else proxy.uri, server_uri

                results = run_studies(get_server_uris, n_concurrent=n_concurrent)
            print(f"requests: {dict(proxy.outcomes)}")
        finally:
            server.kill()
    kills = Counter(kill.split()[0] for result in results for kill in result.kills)
    n_whole = sum(not result.faults for result in results)
    n_ended = sum(result.n_ended for result in results)
    print(
        f"{n_studies} studies, kills: {dict(kills)}, ended before their kill: {n_ended}; "
        f"{n_whole} whole; {time.monotonic() - start:.0f} s"
    )
    return n_whole == n_studies
