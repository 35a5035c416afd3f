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

from harness.messages import FAILED, FINAL, LOST
from harness.planning import Work
from harness.ray import Death
from harness.store import Failure, State
from harness.wording import count
from ship.trial_config import joined_reasons

# Tries after the first one, by cause; a node that is lost may take many with it.
WORKER_RETRIES = 1
NODE_RETRIES = 5


@dataclass(eq=False)
class Attempt:
    """A Ray trial: what it is given, how it ended, and what of it runs again.

    work, proposed: a work, and Optuna's trial where Optuna proposed it.
    deaths, losses: how often a worker died with it before, and how often a node was lost.
    halved: it holds a part of a setting's seeds, as all of them took too much memory.
    where: how far it has come, for people.
    started: when a worker took it up, by time.monotonic.
    stopped: why the scheduler stopped it; None: it did not.
    death: what its worker died of, once that is known.
    state: COMPLETE, PRUNED or FAIL; INTERRUPTED: it runs again; RUNNING: it has not ended.
    final: FINAL of its last result; empty unless COMPLETE.
    failure: the kind of failure; it counts for FAIL alone.
    reason: why it was stopped, failed or was interrupted, or some of its seeds failed, for people.
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
    state: State = field(default=State.RUNNING, init=False)
    final: Mapping[str, Any] = field(default_factory=dict, init=False)
    failure: Failure = field(default=Failure.ERROR, init=False)
    reason: str = field(default="", init=False)

    @property
    def lost(self) -> Mapping[int, str]:
        """Seed -> why it failed, where the trial has finished for its other seeds."""
        reasons: Mapping[int, str] = self.final.get(LOST, {})
        return reasons

    def end(self, last: Mapping[str, Any]) -> list["Attempt"]:
        """Note what has become of it; what runs again of it.

        Args:
            last: its last result, which does not count where the worker died.
        """
        if self.stopped is not None:
            self.state, self.reason = State.PRUNED, self.stopped
            return []
        if self.death is None and FINAL in last:
            (self.final,) = last[FINAL]
            self.state = State.COMPLETE
            if self.lost:
                n_failed = f"{len(self.lost)} of {count(len(self.work.seeds), 'seed')} failed"
                self.reason = f"{n_failed}: {joined_reasons(self.lost)}"
            return []
        if self.death is not None:
            self.failure, self.reason = self.death.failure, f"{self.death.reason} {self.where}"
            if tries := self.deaths + self.losses:
                self.reason += f" (try {tries + 1})"
        else:
            (failed,) = last[FAILED]
            self.failure, self.reason = Failure(failed["failure"]), failed["reason"]
        again = self._again()
        self.state = State.INTERRUPTED if again else State.FAIL
        if again:
            self.reason += "; tried again"
        if len(again) > 1:
            self.reason += " in halves of its seeds"
        return again

    def _again(self) -> list["Attempt"]:
        """What runs again; nothing where that has been tried, or would only happen again."""
        seeds, failure = self.work.seeds, self.failure
        if failure is Failure.OUT_OF_MEMORY and not self.halved and len(seeds) > 1:
            middle = len(seeds) // 2
            halves = (seeds[:middle], seeds[middle:])  # which no scheduler stops
            works = [replace(self.work, seeds=half, may_stop=False) for half in halves]
            return [Attempt(work, self.proposed, halved=True) for work in works]
        if failure is Failure.NODE_LOST and self.losses < NODE_RETRIES:
            return [replace(self, losses=self.losses + 1)]
        its_own = failure in (Failure.WORKER_DIED, Failure.OUT_OF_MEMORY)
        if self.death is not None and its_own and self.deaths < WORKER_RETRIES:
            return [replace(self, deaths=self.deaths + 1)]
        return []
