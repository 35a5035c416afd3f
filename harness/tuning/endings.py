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

    state: COMPLETE, PRUNED or FAIL; INTERRUPTED: it runs again; RUNNING: it has not ended.
    final: FINAL of the trial's last result; empty unless COMPLETE.
    failure: the kind of failure; it counts for FAIL alone.
    reason: why it was stopped, failed or was interrupted, for people.
    """

    state: State
    final: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure = Failure.ERROR
    reason: str = ""


UNENDED = Ending(State.RUNNING)


@dataclass(eq=False)
class Attempt:
    """A Ray trial: what it is given, and what has become of it so far.

    work, proposed: a work, and Optuna's trial where Optuna proposed it.
    deaths, losses: how often a worker died with it before, and how often a node was lost.
    halved: it holds a part of a setting's seeds, as all of them took too much memory.
    where: how far it has come, for people.
    started: when a worker took it up, by time.monotonic.
    stopped: why the scheduler stopped it; None: it did not.
    death: what its worker died of, once that is known.
    ending: what became of it; UNENDED while it waits or runs.
    """

    work: Work
    proposed: optuna.Trial | None = None
    deaths: int = 0
    losses: int = 0
    halved: bool = False
    # of this trial alone, not of what runs again (dataclasses.replace)
    where: str = field(default="before its first epoch", init=False)
    started: float = field(default=0.0, init=False)
    stopped: str | None = field(default=None, init=False)
    death: Death | None = field(default=None, init=False)
    ending: Ending = field(default=UNENDED, init=False)

    def halves(self) -> list["Attempt"]:
        """Two halves of its seeds, which no scheduler stops; none of one seed, or of a half."""
        seeds = self.work.seeds
        middle = 0 if self.halved else len(seeds) // 2
        return [
            Attempt(replace(self.work, seeds=half, may_stop=False), self.proposed, halved=True)
            for half in (seeds[:middle], seeds[middle:])
            if middle
        ]


def ending_of(
    attempt: Attempt, last: Mapping[str, Any], death: Death | None
) -> tuple[Ending, list[Attempt]]:
    """What became of a Ray trial, and what runs again of it.

    Args:
        attempt: the trial.
        last: its last result, which does not count where the worker died.
        death: what the worker died of; None: it lives.
    """
    if attempt.stopped is not None:
        return Ending(State.PRUNED, reason=attempt.stopped), []
    if death is None and FINAL in last:
        return Ending(State.COMPLETE, last[FINAL][0]), []
    if death is not None:
        failure, reason = death.failure, f"{death.reason} {attempt.where}"
        tries = attempt.deaths + attempt.losses
        reason += f" (try {tries + 1})" if tries else ""
    elif FAILED in last:
        (failed,) = last[FAILED]
        failure, reason = Failure(failed["failure"]), failed["reason"]
    else:
        return Ending(State.PRUNED, reason="the scheduler stopped it"), []
    again: list[Attempt] = []
    if failure is Failure.OUT_OF_MEMORY and (again := attempt.halves()):
        how = f"{AGAIN} in halves of its seeds"
    elif death is not None and (again := _as_it_was(attempt, failure)):
        how = AGAIN
    if again:
        return Ending(State.INTERRUPTED, reason=f"{reason}{how}"), again
    return Ending(State.FAIL, failure=failure, reason=reason), []


def _as_it_was(attempt: Attempt, failure: Failure) -> list[Attempt]:
    """The same once more; nothing where that has been tried, or would only happen again."""
    if failure is Failure.NODE_LOST and attempt.losses < NODE_RETRIES:
        return [replace(attempt, losses=attempt.losses + 1)]
    its_own = failure in (Failure.WORKER_DIED, Failure.OUT_OF_MEMORY)
    if its_own and attempt.deaths < WORKER_RETRIES:
        return [replace(attempt, deaths=attempt.deaths + 1)]
    return []
