"""What became of a Ray trial: why its worker died, and what of it runs again.

- A lost node is nobody's fault: its trials run again as they were, a few times.
- A worker that died: once more as it was. Dying again is the trial's own fault.
- Out of memory: once more in two halves of its seeds.

Tune's own max_failures knows no causes, and tells neither searcher nor callbacks of what it tries
again.
"""

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from harness.planning import Work
from harness.ray import (
    CONNECTION_BROKE,
    LOW_MEMORY,
    MEMORY_USED,
    Nodes,
    driver_address,
    raylets,
)
from harness.worker import FAILED, FINAL
from reports.contract import Failure, State

# Tries after the first one, by cause; a node that is lost may take many with it.
WORKER_RETRIES = 1
NODE_RETRIES = 5
AGAIN = "; tried again"
# How long a raylet (Ray's process on each node) may take to answer; then its node counts as lost.
ANSWER_SECONDS = 3.0
# the heading of each error in Tune's file, and how the last line of a Python error begins
_FAILURE = re.compile(r"^Failure # .*$", re.MULTILINE)
_IS_ERROR = re.compile(r"\S+: ")


@dataclass(frozen=True)
class Ending:
    """What became of a Ray trial.

    state: COMPLETE, PRUNED or FAIL; INTERRUPTED: it runs again.
    final: FINAL of the trial's last result; empty unless COMPLETE.
    failure: the kind of failure; it counts for FAIL alone.
    reason: why it was stopped, failed or was interrupted, for people.
    """

    state: State
    final: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure = Failure.ERROR
    reason: str = ""


@dataclass(frozen=True)
class Order:
    """What a Ray trial is given: a work, and Optuna's trial where Optuna proposed it.

    deaths, losses: how often a worker died with it, and how often a node was lost.
    halved: it holds a part of a setting's seeds, as all of them took too much memory.
    """

    work: Work
    proposed: optuna.Trial | None = None
    deaths: int = 0
    losses: int = 0
    halved: bool = False

    def halves(self) -> list["Order"]:
        """Two halves of its seeds, which no scheduler stops; none of one seed, or of a half."""
        seeds = self.work.seeds
        middle = 0 if self.halved else len(seeds) // 2
        return [
            Order(replace(self.work, seeds=half, may_stop=False), self.proposed, halved=True)
            for half in (seeds[:middle], seeds[middle:])
            if middle
        ]


@dataclass(frozen=True)
class Death:
    """What a worker died of: the kind of failure, and the reason in words for people."""

    failure: Failure
    reason: str


def ending_of(
    order: Order, last: Mapping[str, Any], stopped: str | None, death: Death | None
) -> tuple[Ending, list[Order]]:
    """What became of a Ray trial, and what runs again of it.

    Args:
        order: what the trial was given.
        last: its last result, which does not count where the worker died.
        stopped: why the scheduler stopped it; None: it did not.
        death: what the worker died of; None: it lives.
    """
    if stopped is not None:
        return Ending(State.PRUNED, reason=stopped), []
    if death is None and FINAL in last:
        return Ending(State.COMPLETE, last[FINAL][0]), []
    if death is not None:
        failure, reason = death.failure, death.reason
        tries = order.deaths + order.losses
        reason += f" (try {tries + 1})" if tries else ""
    elif FAILED in last:
        (failed,) = last[FAILED]
        failure, reason = Failure(failed["failure"]), failed["reason"]
    else:
        return Ending(State.PRUNED, reason="the scheduler stopped it"), []
    again: list[Order] = []
    if failure is Failure.OUT_OF_MEMORY and (again := order.halves()):
        how = f"{AGAIN} in halves of its seeds"
    elif death is not None and (again := _as_it_was(order, failure)):
        how = AGAIN
    if again:
        return Ending(State.INTERRUPTED, reason=f"{reason}{how}"), again
    return Ending(State.FAIL, failure=failure, reason=reason), []


def _as_it_was(order: Order, failure: Failure) -> list[Order]:
    """The same once more; nothing where that has been tried, or would only happen again."""
    if failure is Failure.NODE_LOST and order.losses < NODE_RETRIES:
        return [replace(order, losses=order.losses + 1)]
    its_own = failure in (Failure.WORKER_DIED, Failure.OUT_OF_MEMORY)
    if its_own and order.deaths < WORKER_RETRIES:
        return [replace(order, deaths=order.deaths + 1)]
    return []


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
