"""What has died: a worker, with its node or by itself, or all of Ray.

A Ray that dies or cannot start ends this process, with a line, where nothing else would.
"""

import faulthandler
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RayLost
from harness.ray.internals import (
    CONNECTION_BROKE,
    LOW_MEMORY,
    MEMORY_USED,
    RAISED_IN_SETUP,
    Nodes,
    dead_daemon,
    driver_address,
    raylets,
)
from reports.contract import Failure

# How long a study may take to end in order once Ray has died; it does so in 10 s.
PATIENCE_SECONDS, POLL_SECONDS = 30.0, 0.5
# A start takes 2 s, and some minutes on a cluster whose nodes read Python over a slow network.
START_SECONDS = 300.0
# Writes its argument when its input ends before a byte has come.
WITNESS = "import sys; sys.stdin.read(1) or sys.stderr.write(sys.argv[1])"
INCOMPLETE = 3  # the command line's exit code for a study that can go on
# How long a raylet may take to answer; then its node counts as lost.
ANSWER_SECONDS = 3.0
# the heading of each error in Tune's file, and how the last line of a Python error begins
_FAILURE = re.compile(r"^Failure # .*$", re.MULTILINE)
_IS_ERROR = re.compile(r"\S+: ")


@dataclass(frozen=True)
class Death:
    """What a worker died of: the kind of failure, and the reason in words for people."""

    failure: Failure
    reason: str


@dataclass
class _Attempt:
    """A Ray trial on its worker: the nodes when it began, its own node, how far it came."""

    nodes: Nodes
    address: str | None = None
    where: str = "before its first epoch"
    death: Death | None = None


def node_answers(node: tuple[str, int]) -> bool:
    """Whether a node's raylet can be reached from here; Ray itself takes half a minute to find out.

    Args:
        node: address and port of the raylet.
    """
    try:
        with socket.create_connection(node, timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False


class Deaths:
    """What is known about the deaths of one run's workers.

    Ray's exception often says no more than that a worker cannot be reached. So the nodes are asked:
    the one that the trial ran on, or every node there was when the trial began, where the trial
    never said which one it ran on. If one of these has gone or does not answer, the worker's node
    was lost. If all of them answer, the link to the worker broke. To a worker on the driver's own
    node there is no link: such a worker died, and Ray is slow to hear of it.
    """

    def __init__(
        self,
        alive: Callable[[], Nodes] = raylets,
        answers: Callable[[tuple[str, int]], bool] = node_answers,
        own_address: Callable[[], str | None] = driver_address,
    ) -> None:
        """Note which nodes there are now.

        Args:
            alive: returns the nodes that Ray holds for alive.
            answers: whether the raylet at an address and port can be reached.
            own_address: returns the address of the driver's node; None: not known.
        """
        self._alive, self._answers, self._own_address = alive, answers, own_address
        self._nodes_at_start = alive()
        self._attempts: dict[str, _Attempt] = {}

    def _attempt(self, trial_id: str) -> _Attempt:
        return self._attempts.setdefault(trial_id, _Attempt(self._nodes_at_start))

    def began(self, trial_id: str) -> None:
        """Note that a worker has begun the trial, and which nodes there are."""
        self._attempt(trial_id).nodes = self._alive()

    def reached(self, trial_id: str, where: str, address: str | None = None) -> None:
        """Note how far a trial has come.

        Args:
            trial_id: Ray's id of the trial.
            where: for people, e.g. "at stage selection, epoch 3".
            address: of the node that the trial runs on; None: not known.
        """
        attempt = self._attempt(trial_id)
        attempt.where, attempt.address = where, address or attempt.address

    def where(self, trial_id: str) -> str:
        """How far a trial has come, for people."""
        return self._attempt(trial_id).where

    def ended(self, trial_id: str) -> None:
        """Forget a trial that nobody will ask about again."""
        self._attempts.pop(trial_id, None)

    def overdue(self, trial_id: str, limit: float) -> None:
        """Note that the driver kills the worker, as it has run for longer than `limit` seconds."""
        self._note(trial_id, Failure.TIME_LIMIT, f"time_limit of {limit:g} s passed")

    def saw(self, trial_id: str, message: str) -> None:
        """Note why a trial's worker died; message: Ray's text about its death."""
        if self._attempt(trial_id).death:  # what a node answers would be of no use
            return
        if LOW_MEMORY in message:
            used = MEMORY_USED.search(message)
            of = f" ({used[1]})" if used else ""
            self._note(trial_id, Failure.OUT_OF_MEMORY, f"killed by Ray as memory ran low{of}")
        elif lost := self._what_was_lost(trial_id, message):
            self._note(trial_id, Failure.NODE_LOST, lost)

    def of(self, trial_id: str) -> Death:
        """What the trial's worker died of; where nothing is known, by itself."""
        return self._note(trial_id, Failure.WORKER_DIED, "its worker process died")

    def _note(self, trial_id: str, failure: Failure, what: str) -> Death:
        """Keep why a worker died, with how far its trial had come; what was noted first stands."""
        attempt = self._attempt(trial_id)
        attempt.death = attempt.death or Death(failure, f"{what} {attempt.where}")
        return attempt.death

    def _what_was_lost(self, trial_id: str, message: str) -> str | None:
        """In words, whether the worker's node or the link to it was lost; None: neither was."""
        attempt = self._attempt(trial_id)
        if len(attempt.nodes) < 2:
            return None
        # The nodes that the worker may have run on. Another node may go, say because it was idle,
        # without harm to this worker.
        own = frozenset(node for node in attempt.nodes if node[0] == attempt.address)
        own = own or attempt.nodes
        if not own <= self._alive() or not all(map(self._answers, own)):
            return "its node was lost"
        if CONNECTION_BROKE in message and {place for place, _ in own} != {self._own_address()}:
            return "the connection to its worker was lost"
        return None


def last_error(text: str) -> str:
    """What went wrong last, from the file in which Tune keeps a trial's errors, in one line.

    That is the last line of an exception, as it names the cause. What Ray says of a worker that
    died has several lines, of which one in the middle names it: all but the indented ones, which
    hold ids.
    """
    lines = [line.rstrip() for line in _FAILURE.split(text)[-1].split("\n") if line.strip()]
    if not lines:
        return "its process ended without a word"
    if _IS_ERROR.match(lines[-1]):
        return lines[-1]
    return " ".join(line for line in lines if not line[0].isspace())


def was_raised_in_setup(text: str) -> bool:
    """Whether Ray's text about a worker says that an error was raised as it was set up."""
    return RAISED_IN_SETUP in text


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
