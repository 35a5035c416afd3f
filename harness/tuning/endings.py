"""What became of a Ray trial, and what of it runs again.

- A lost node is nobody's fault: its trials run again as they were, a few times.
- A worker that died: once more as it was. Dying again is the trial's own fault.
- Out of memory: once more in two halves of its seeds.

Tune's own max_failures knows no causes, and tells neither searcher nor callbacks of what it tries
again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from harness.messages import FAILED, FINAL
from harness.planning import Work
from harness.ray import Death
from reports.contract import Failure, State

# Tries after the first one, by cause; a node that is lost may take many with it.
WORKER_RETRIES = 1
NODE_RETRIES = 5
AGAIN = "; tried again"


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
