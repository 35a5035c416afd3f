"""Why a Ray trial's worker died: by itself, for want of memory, with its node, or by our kill."""

import re
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

# How long a raylet (Ray's process on each node) may take to answer; then its node counts as lost.
ANSWER_SECONDS = 3.0
# the heading of each error in Tune's file, and how the last line of a Python error begins
_FAILURE = re.compile(r"^Failure # .*$", re.MULTILINE)
_IS_ERROR = re.compile(r"\S+: ")


@dataclass(frozen=True)
class Death:
    """What a worker died of: the kind of failure, and the reason in words for people."""

    failure: Failure
    reason: str


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
        alive: Callable[[], Nodes] = living_nodes,
        node_answers: Callable[[tuple[str, int]], bool] = node_answers,
        own_address: Callable[[], str | None] = driver_address,
    ) -> None:
        """Note which nodes there are now.

        Args:
            alive: returns the nodes that Ray holds for alive.
            node_answers: whether the raylet at an address and port can be reached.
            own_address: returns the address of the driver's node; None: not known.
        """
        self._living_nodes = alive
        self._node_answers = node_answers
        self._own_address = own_address
        self._nodes_at_start = alive()
        # each by Ray's id of the trial: nodes when it began, how far it came, its node's address
        self._nodes: dict[str, Nodes] = {}
        self._progress: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._deaths: dict[str, Death] = {}

    def began(self, trial_id: str) -> None:
        """Note that a worker has begun the trial, and which nodes there are."""
        self._nodes[trial_id] = self._living_nodes()

    def reached(self, trial_id: str, where: str, address: str | None = None) -> None:
        """Note how far a trial has come.

        Args:
            trial_id: Ray's id of the trial.
            where: for people, e.g. "at stage selection, epoch 3".
            address: of the node that the trial runs on; None: not known.
        """
        self._progress[trial_id] = where
        if address is not None:
            self._addresses[trial_id] = address

    def ended(self, trial_id: str) -> None:
        """Forget a trial that nobody will ask about again."""
        for known in (self._nodes, self._progress, self._addresses, self._deaths):
            known.pop(trial_id, None)

    def overdue(self, trial_id: str, limit: float) -> None:
        """Note that the driver kills the worker, as it has run for longer than `limit` seconds."""
        self._note(trial_id, Failure.TIME_LIMIT, f"time_limit of {limit:g} s passed")

    def saw(self, trial_id: str, message: str) -> None:
        """Note why a trial's worker died; message: Ray's text about its death."""
        if trial_id in self._deaths:
            return  # the reason is known already: say, the driver killed it (overdue)
        if was_killed_for_memory(message):
            used = memory_used(message)
            of = f" ({used})" if used else ""
            self._note(trial_id, Failure.OUT_OF_MEMORY, f"killed by Ray as memory ran low{of}")
        elif lost := self._what_was_lost(trial_id, message):
            self._note(trial_id, Failure.NODE_LOST, lost)
        else:
            self._note(trial_id, Failure.WORKER_DIED, "its worker process died")

    def of(self, trial_id: str) -> Death:
        """What the trial's worker died of; where nothing is known, by itself."""
        if trial_id not in self._deaths:
            self._note(trial_id, Failure.WORKER_DIED, "its worker process died")
        return self._deaths[trial_id]

    def _note(self, trial_id: str, failure: Failure, what: str) -> None:
        """Keep why a worker died, with how far its trial had come."""
        where = self._progress.get(trial_id, "before its first epoch")
        self._deaths[trial_id] = Death(failure, f"{what} {where}")

    def _what_was_lost(self, trial_id: str, message: str) -> str | None:
        """In words, whether the worker's node or the link to it was lost; None: neither was."""
        nodes = self._nodes.get(trial_id, self._nodes_at_start)
        if len(nodes) < 2:
            return None
        # The nodes that the worker may have run on. Another node may go, say because it was idle,
        # without harm to this worker.
        address = self._addresses.get(trial_id)
        own = frozenset(node for node in nodes if node[0] == address) or nodes
        if not own <= self._living_nodes() or not all(map(self._node_answers, own)):
            return "its node was lost"
        if was_cut_off(message) and {place for place, _ in own} != {self._own_address()}:
            return "the connection to its worker was lost"
        return None


def last_error(text: str) -> str:
    """What went wrong last, from the file in which Tune keeps a trial's errors, in one line.

    That is the last line of an exception, as it names the cause. What Ray says of a worker that
    died has several lines, of which one in the middle names it: all but the indented ones, which
    hold ids.
    """
    last = _FAILURE.split(text)[-1]
    lines = [line.rstrip() for line in last.split("\n") if line.strip()]
    if not lines:
        return "its process ended without a word"
    return lines[-1] if _IS_ERROR.match(lines[-1]) else " ".join(filter(_is_told, lines))


def _is_told(line: str) -> bool:
    return not line[0].isspace()
