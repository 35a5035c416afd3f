"""What has died: a worker, with its node or by itself, or all of Ray.

A Ray that dies or cannot start ends this process, with a line, where nothing else would.
"""

import faulthandler
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray

from harness.errors import RayLost
from harness.ray.internals import CONNECTION_BROKE, LOW_MEMORY, MEMORY_USED, NODE_DIED, dead_daemon
from reports.contract import Failure

# How long a study may take to end in order once Ray has died; it does so in 10 s.
PATIENCE_SECONDS, POLL_SECONDS = 30.0, 0.5
# A start takes 2 s, and some minutes on a cluster whose nodes read Python over a slow network.
START_SECONDS = 300.0
# Writes its argument when its input ends before a byte has come.
WITNESS = "import sys; sys.stdin.read(1) or sys.stderr.write(sys.argv[1])"
INCOMPLETE = 3  # the command line's exit code for a study that can go on
# In the file in which Tune keeps a trial's errors: the head of each, and the line that names one.
_FAILURE = re.compile(r"^Failure # .*$", re.MULTILINE)
_IS_ERROR = re.compile(r"\S+(Error|Exception)\b.*: ")


@dataclass(frozen=True)
class Death:
    """What a worker died of: the kind of failure, and the reason in words for people."""

    failure: Failure
    reason: str


def death_of(told: str) -> Death:
    """What a worker died of, by Ray's text about its death.

    Where a connection breaks before Ray knows why, there is a link that can have broken as soon as
    Ray has known a second node. On a single node Ray is only slow to hear of a worker's death.
    """
    if LOW_MEMORY in told:
        used = MEMORY_USED.search(told)
        of = f" ({used[1]})" if used else ""
        return Death(Failure.OUT_OF_MEMORY, f"killed by Ray as memory ran low{of}")
    if NODE_DIED in told:
        return Death(Failure.NODE_LOST, "its node was lost")
    if CONNECTION_BROKE in told and len(ray.nodes()) > 1:  # type: ignore[no-untyped-call]
        return Death(Failure.NODE_LOST, "the connection to its worker was lost")
    return Death(Failure.WORKER_DIED, "its worker process died")


def last_error(text: str) -> str:
    """What went wrong last, in one line, by the text that Tune or Ray has of it.

    That is an exception from the line that names it on. What Ray says of a worker that died has up
    to three lines, beside indented ones with ids and the stack.
    """
    last = _FAILURE.split(text)[-1]
    lines = [line.rstrip() for line in last.splitlines() if line.strip() and not line[0].isspace()]
    told = [line for line in lines if not line.startswith("Traceback ")]
    named = [place for place, line in enumerate(told) if _IS_ERROR.match(line)]
    return " ".join(told[named[-1] if named else -3 :]) or "its process ended without a word"


@contextmanager
def leave_a_dead_ray() -> Iterator[None]:
    """End this process if Ray dies inside and the context has not ended some seconds later.

    A call to a dead Ray lasts for up to a minute, in which the thread that waits hears of nothing.
    Then Ray's core ends the process itself, with messages of its own and exit code 1.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            dead = dead_daemon()
            if dead is not None and not over.wait(PATIENCE_SECONDS):
                sys.stderr.write(f"incomplete: {RayLost(dead)}\n")
                sys.stderr.flush()
                os._exit(INCOMPLETE)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def bounded_start() -> Iterator[None]:
    """End this process, with a line and exit code 1, if the context takes START_SECONDS.

    As Ray's core connects, it waits for a first worker, for ever, and lets no thread of Python run.
    Where its raylet dies just then, the core ends the process. So another process has the line to
    say, and the clock is faulthandler's, whose thread needs no turn of Python's.
    """
    line = (
        "Ray did not start: it ended this process, or started no worker in "
        f"{START_SECONDS:g} s. The same command tries again\n"
    )
    with (
        Path(os.devnull).open("w") as nowhere,
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WITNESS, line],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt at the terminal is none of its affair
        ) as witness,
    ):
        faulthandler.dump_traceback_later(START_SECONDS, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            with suppress(BrokenPipeError):
                witness.stdin.write(b".")  # type: ignore[union-attr]
