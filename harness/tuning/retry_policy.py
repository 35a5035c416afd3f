"""What became of a Ray trial, and what of it runs again.

- A lost node is nobody's fault: its trials run again as they were, a few times.
- A worker that died: once more as it was. Dying again is the trial's own fault.
- Out of memory: once more in two halves of its seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from harness.planning import Work
from harness.tuning.worker_deaths import Death
from harness.worker import FAILED, FINAL
from reports.contract import Failure, State

# Tries beside the first one after a worker's death; a node that is lost may take many with it.
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
class Given:
    """What a Ray trial is given: a work, and Optuna's trial where Optuna proposed it.

    deaths, losses: how often a worker died with it, and how often a node was lost.
    halved: it holds a part of a setting's seeds, as all of them took too much memory.
    """

    work: Work
    proposed: optuna.Trial | None = None
    deaths: int = 0
    losses: int = 0
    halved: bool = False

    def by_seeds(self) -> list["Given"]:
        """Two halves of its seeds; no scheduler judges half a setting."""
        middle = len(self.work.seeds) // 2
        return [
            Given(replace(self.work, seeds=seeds, may_stop=False), self.proposed, halved=True)
            for seeds in (self.work.seeds[:middle], self.work.seeds[middle:])
        ]


def judge(
    given: Given, last: Mapping[str, Any], stopped: str | None, death: Death | None
) -> tuple[Ending, list[Given]]:
    """What became of a Ray trial, and what runs again of it.

    Args:
        given: what the trial was given.
        last: its last result, which does not count where the worker died.
        stopped: why the scheduler stopped it; None: it did not.
        death: what the worker died of; None: it lives.
    """
    if stopped is not None:
        return Ending(State.PRUNED, reason=stopped), []
    if death is not None:
        reason = _reason(given, death)
        once_more = _as_it_was(given, death)
        if once_more is not None:
            return Ending(State.INTERRUPTED, reason=f"{reason}{AGAIN}"), [once_more]
        ending = Ending(State.FAIL, failure=death.failure, reason=reason)
    elif FAILED in last:
        (failed,) = last[FAILED]
        ending = Ending(State.FAIL, failure=Failure(failed["failure"]), reason=failed["reason"])
    elif FINAL in last:
        return Ending(State.COMPLETE, last[FINAL][0]), []
    else:
        return Ending(State.PRUNED, reason="the scheduler stopped it"), []
    if ending.failure is Failure.OUT_OF_MEMORY and _has_halves(given):
        reason = f"{ending.reason}{AGAIN} in halves of its seeds"
        return Ending(State.INTERRUPTED, reason=reason), given.by_seeds()
    return ending, []


def _reason(given: Given, death: Death) -> str:
    tries = given.deaths + given.losses
    return f"{death.reason} (try {tries + 1})" if tries else death.reason


def _as_it_was(given: Given, death: Death) -> Given | None:
    """The same once more, None where that has been tried, or would only happen again."""
    if death.failure is Failure.NODE_LOST and given.losses < NODE_RETRIES:
        return replace(given, losses=given.losses + 1)
    short = death.failure is Failure.OUT_OF_MEMORY and not _has_halves(given)
    if (death.failure is Failure.WORKER_DIED or short) and given.deaths < WORKER_RETRIES:
        return replace(given, deaths=given.deaths + 1)
    return None


def _has_halves(given: Given) -> bool:
    return len(given.work.seeds) > 1 and not given.halved
