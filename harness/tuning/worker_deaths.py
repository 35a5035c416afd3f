"""Why the worker of a Ray trial died: by itself, for want of memory, with its node, or by us."""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from harness.cluster import (
    Nodes,
    driver_address,
    living_nodes,
    memory_used,
    was_cut_off,
    was_killed_for_memory,
)
from reports.contract import Failure

# How long a raylet may take to answer; a node that does not is taken to be lost.
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Death:
    """What a worker died of; reason: for people."""

    failure: Failure
    reason: str


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
        alive: Callable[[], Nodes] = living_nodes,
        answers: Callable[[tuple[str, int]], bool] = answers,
        own_address: Callable[[], str | None] = driver_address,
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
        """Note how far a trial has come.

        Args:
            trial_id: Ray's id of the trial.
            where: for people, e.g. "at stage selection, epoch 3".
            address: of the node that the trial runs on; None: not known.
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
        if was_killed_for_memory(message):
            used = memory_used(message)
            of = f" ({used})" if used else ""
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
        if was_cut_off(message) and {place for place, _ in own} != {self._own_address()}:
            return "the connection to its worker was lost"
        return None
