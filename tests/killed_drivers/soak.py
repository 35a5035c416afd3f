"""Studies whose drivers are killed at random times: `python -m tests.soak drivers` or `server`.

Each study is killed several times: only the driver, its whole process group, or by closing its
terminal (SIGHUP to the group). The times are drawn between its start and its usual end, and it is
restarted at once. Then it runs until it is finished. It must leave the same content as an
undisturbed study: the same runs, identical numbers, no process and no temporary folder.
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
from tests.killed_drivers.left import SETTINGS, content, faults_of
from tests.killed_drivers.place import DRIVERS, PRELOADED, Place, Uris, kill, places, run_to_end

CALM = "calm"
KINDS = ("drivers", "server")
WHOM = ("driver", "group", "terminal")


@dataclass
class Story:
    """Result of one study. faults: Differences from an undisturbed study."""

    name: str
    kills: list[str] = field(default_factory=list)
    ended_first: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = "; ".join(self.faults) or "whole"
        return f"{self.name}: {', '.join(self.kills) or 'never killed'}; {faults}"


@dataclass
class Calm:
    """An undisturbed study: its duration and its content."""

    seconds: float
    content: dict[str, Any]


def torment(place: Place, draw: random.Random, most: int, calm: Calm) -> Story:
    """Kill a study several times, then finish it.

    Args:
        place: Folders and store of the study.
        draw: Random generator of times and victims.
        most: Maximum number of kills; the minimum is half of it.
        calm: Undisturbed study. Its duration is updated if another one ends before its kill.
    """
    story = Story(place.name)
    for number in range(draw.randint((most + 1) // 2, most)):
        moment, whom = draw.uniform(0, calm.seconds), draw.choice(WHOM)
        began = time.monotonic()
        process = place.start()
        process.join(moment)
        if process.exitcode is None:
            kill(process, whom)
            story.kills.append(f"{whom} at {moment:.1f} s")
            continue
        story.ended_first += 1
        if number == 0:
            calm.seconds = time.monotonic() - began
        if process.exitcode:
            output = place.output.read_text(errors="replace")
            story.faults.append(f"exit code {process.exitcode}: {output[-600:]}")
    code, output = run_to_end(place)
    if code:
        story.faults.append(f"exit code {code} in the end: {output[-600:]}")
    else:
        story.faults += faults_of(place, calm.content)
    return story


def soak_studies(count: int, folder: Path, uris: Uris, most: int, at_once: int) -> list[Story]:
    """Torment studies, some of them concurrently, and print one line per study.

    Args:
        count: Number of studies.
        folder: Folder of all studies.
        uris: Function of a study's name that returns the store's addresses for drivers and checks.
        most: Maximum number of kills per study.
        at_once: Number of concurrent studies.
    """
    DRIVERS.set_forkserver_preload(list(PRELOADED))
    with places(folder, uris) as make:
        undisturbed = make(CALM)
        began = time.monotonic()
        code, output = run_to_end(undisturbed)
        seconds = time.monotonic() - began
        if code:
            raise RuntimeError(f"an undisturbed study ended with {code}: {output}")
        calm = Calm(seconds, content(undisturbed.bench(), undisturbed.name))
        if len(calm.content) != SETTINGS + 1:
            raise RuntimeError(f"an undisturbed study left {len(calm.content)} runs")
        print(f"undisturbed: {seconds:.1f} s", flush=True)

        def soak_study(number: int) -> Story:
            draw = random.Random(number)
            story = torment(make(f"study-{number}"), draw, most, calm)
            print(story, flush=True)
            return story

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(soak_study, range(count)))


def on_sqlite(folder: Path, name: str) -> tuple[str, str]:
    """Create an sqlite store in the study's folder, and return its address."""
    empty = folder / "empty.db"
    if not empty.exists():
        open_store(f"sqlite:///{empty}")
    shutil.copy(empty, folder / name / "mlflow.db")
    uri = f"sqlite:///{folder}/{name}/mlflow.db"
    return uri, uri


def soak_drivers(kind: str, count: int, folder: Path, most: int, at_once: int) -> bool:
    """Torment studies, print a summary, and return True if all of them are as undisturbed.

    Args:
        kind: "drivers" (sqlite), or "server" (a tracking server behind a proxy that damages a tenth
            of the requests).
        count: See soak_studies.
        folder: See soak_studies.
        most: See soak_studies.
        at_once: See soak_studies.
    """
    began = time.monotonic()
    run = partial(soak_studies, count, folder, most=most, at_once=at_once)
    if kind == "drivers":
        stories = run(partial(on_sqlite, folder))
    else:
        (folder / "server").mkdir()
        server = MlflowServer(f"sqlite:///{folder}/server.db", folder / "server")
        try:
            with FlakyProxy(server.port) as proxy:
                direct = f"http://127.0.0.1:{server.port}"
                stories = run(lambda name: (direct if name == CALM else proxy.uri, direct))
            print(f"requests: {dict(proxy.fates)}")
        finally:
            server.kill()
    kills = Counter(kill.split()[0] for story in stories for kill in story.kills)
    whole = sum(not story.faults for story in stories)
    first = sum(story.ended_first for story in stories)
    print(
        f"{count} studies, kills: {dict(kills)}, ended before their kill: {first}; {whole} whole; "
        f"{time.monotonic() - began:.0f} s"
    )
    return whole == count
