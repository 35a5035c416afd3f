"""Why the worker of a Ray trial died: by itself, for want of memory, with its node, or by us."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from reports.contract import Failure

# How long a raylet may take to answer; a node that does not is taken to be lost.
ANSWER_SECONDS = 3.0
LOW_MEMORY = "running low on memory"
# What Ray says when a connection broke and it has not heard of the worker's death. It gives up a
# connection sooner than a node: one broke when a link was cut for 20 s, and the node was kept.
CUT_OFF = "is temporarily unavailable"
_USED = re.compile(r"was (\S+ used / \S+) limit")

# (address, port) of raylets
Nodes = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Death:
    """What a worker died of; reason: for people."""

    failure: Failure
    reason: str


def alive() -> Nodes:
    """The nodes that Ray holds for alive."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return frozenset(
        (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes if node["Alive"]
    )


def own_address() -> str:
    """Of the node that the driver is on."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def answers(node: tuple[str, int]) -> bool:
    """Whether a raylet can be reached from here; Ray itself takes half a minute to find out."""
    try:
        with socket.create_connection(node, timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False


class Deaths:
    """What is known about the deaths of one run's workers.

    A lost node is told by what has become of the trial's node since it began, of all of them where
    it never said which it was on: Ray's exception often says no more than that the worker cannot be
    reached. Where all of them answer again it was the link; but on the driver's own node, where
    there is none, the worker died and Ray is slow to hear of it.
    """

    def __init__(
        self,
        alive: Callable[[], Nodes] = alive,
        answers: Callable[[tuple[str, int]], bool] = answers,
        own_address: Callable[[], str] = own_address,
    ) -> None:
        self._alive = alive
        self._answers = answers
        self._own_address = own_address
        self._first = alive()
        self._nodes: dict[str, Nodes] = {}
        self._where: dict[str, str] = {}
        self._address: dict[str, str] = {}
        self._deaths: dict[str, Death] = {}

    def began(self, trial_id: str) -> None:
        """A worker took the trial up."""
        self._nodes[trial_id] = self._alive()

    def reached(self, trial_id: str, where: str, address: str | None = None) -> None:
        """How far the trial has come, e.g. "at stage selection, epoch 3", and on which node.

        Args:
            trial_id: Ray's.
            where: in words.
            address: of the node; None: not known now.
        """
        self._where[trial_id] = where
        if address is not None:
            self._address[trial_id] = address

    def ended(self, trial_id: str) -> None:
        """Nobody will ask for the trial again."""
        for known in (self._nodes, self._where, self._address, self._deaths):
            known.pop(trial_id, None)

    def overdue(self, trial_id: str, limit: float) -> None:
        """The driver kills the worker, as it has run for longer than `limit` seconds."""
        self._note(trial_id, Failure.TIME_LIMIT, f"time_limit of {limit:g} s passed")

    def saw(self, trial_id: str, message: str) -> None:
        """A worker is dead; message: what Ray says of it."""
        if trial_id in self._deaths:
            return  # by us
        if LOW_MEMORY in message:
            used = _USED.search(message)
            of = f" ({used[1]})" if used else ""
            self._note(trial_id, Failure.OUT_OF_MEMORY, f"killed by Ray as memory ran low{of}")
        elif lost := self._lost(trial_id, message):
            self._note(trial_id, Failure.NODE_LOST, lost)
        else:
            self._note(trial_id, Failure.WORKER_DIED, "its worker process died")

    def of(self, trial_id: str) -> Death:
        """What the trial's worker died of."""
        if trial_id not in self._deaths:
            self._note(trial_id, Failure.WORKER_DIED, "its worker process died")
        return self._deaths[trial_id]

    def _note(self, trial_id: str, failure: Failure, what: str) -> None:
        where = self._where.get(trial_id, "before its first epoch")
        self._deaths[trial_id] = Death(failure, f"{what} {where}")

    def _lost(self, trial_id: str, message: str) -> str | None:
        """What went with the worker, its node or the link to it; None: neither."""
        nodes = self._nodes.get(trial_id, self._first)
        if len(nodes) < 2:
            return None
        # where it may be: another node that goes, say as it was idle, is no loss to it
        address = self._address.get(trial_id)
        own = frozenset(node for node in nodes if node[0] == address) or nodes
        if not own <= self._alive() or not all(map(self._answers, own)):
            return "its node was lost"
        if CUT_OFF in message and {place for place, _ in own} != {self._own_address()}:
            return "the connection to its worker was lost"
        return None


def told(file: str | None) -> str:
    """What Tune has written into a trial's error file, "" if there is none."""
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace") if file else ""
    except OSError:
        return ""


@contextmanager
def memory_kills_are_deaths() -> Iterator[None]:
    """Make Tune take a worker that Ray killed for want of memory for one that died.

    Such a worker's OutOfMemoryError is no RayActorError, and Tune 2.60 gives up the whole run at
    it ("Caught unexpected exception").
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    original = RayActorManager._actor_task_failed

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> Any:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        return original(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original  # type: ignore[method-assign]
