"""Record the outcomes of Ray trials, and decide by the cause of a failure whether to retry.

- A node was lost: the trial is retried unchanged, up to NODE_RETRIES times.
- A worker died: the trial is retried unchanged once. A second death counts as the trial's fault.
- Out of memory: the trial is retried as two trials with half of its seeds each, down to trials of a
  single seed. From then on, StudySearcher limits trials with the same backbone and methods to the
  number of seeds of a half. If a trial of a single seed runs out of memory, it is retried only if
  Ray killed its worker, and this counts as a worker's death.
- Another error: it is likely to recur, so the trial is not retried in this run of the study.

Tune's own max_failures does not distinguish causes, and does not report retries to the searcher or
the callbacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from harness.messages import FAILED, FAILED_SEEDS, FINAL
from harness.planning import Work, halve
from harness.ray import Death
from harness.store import Failure, State
from harness.wording import count
from ship.trial_config import join_reasons

# Maximum number of retries by cause. A lost node is not the fault of its trials.
WORKER_RETRIES = 1
NODE_RETRIES = 5


@dataclass(eq=False)
class Attempt:
    """One attempt to run a work as a Ray trial.

    Attributes:
        work: Configuration and seeds of the trial.
        optuna_trial: Optuna's trial of the configuration, to which the outcome is reported. None in
            grid studies, for controls, for configurations outside the study's space, and for
            configurations that were enumerated because the sampler only repeated known ones.
        worker_deaths: Number of earlier attempts that ended with a worker's death.
        node_losses: Number of earlier attempts that ended with the loss of a node.
        progress: Progress of the trial, as text for messages.
        started: Time of the start by time.monotonic. It is increased by the time of each wait for
            the store, which does not count towards the time limit.
        stop_reason: Why the scheduler stopped it. None if it did not.
        death: Cause of its worker's death. None if the worker has not died.
        state: RUNNING until it ends, then COMPLETE, PRUNED, FAIL, or INTERRUPTED if it is retried.
        final: Content of FINAL (harness.messages) in its last result. {} unless COMPLETE.
        failure: Kind of failure. Meaningful only for FAIL and INTERRUPTED.
        reason: Why it was stopped, failed or was interrupted, or why some of its seeds failed. ""
            if it is running or all seeds are finished.
    """

    work: Work
    optuna_trial: optuna.Trial | None = None
    worker_deaths: int = 0
    node_losses: int = 0
    # not copied to a retry by dataclasses.replace
    progress: str = field(default="before its first epoch", init=False)
    started: float = field(default=0.0, init=False)
    stop_reason: str | None = field(default=None, init=False)
    death: Death | None = field(default=None, init=False)
    state: State = field(default=State.RUNNING, init=False)
    final: Mapping[str, Any] = field(default_factory=dict, init=False)
    failure: Failure = field(default=Failure.ERROR, init=False)
    reason: str = field(default="", init=False)

    @property
    def failed_seeds(self) -> Mapping[int, str]:
        """Reason by failed seed, if the trial finished for its other seeds. {} otherwise."""
        reasons: Mapping[int, str] = self.final.get(FAILED_SEEDS, {})
        return reasons

    def end(self, last: Mapping[str, Any]) -> list["Attempt"]:
        """Record how the attempt ended, and return the attempts that retry it.

        Args:
            last: Last result of the trial. It is ignored if the worker died.

        Returns:
            One attempt, or two with half of the seeds each. [] if the trial is not retried.
        """
        if self.stop_reason is not None:
            self.state, self.reason = State.PRUNED, self.stop_reason
            return []
        if self.death is None and FINAL in last:
            (self.final,) = last[FINAL]
            self.state = State.COMPLETE
            if self.failed_seeds:
                n_failed = (
                    f"{len(self.failed_seeds)} of {count(len(self.work.seeds), 'seed')} failed"
                )
                self.reason = f"{n_failed}: {join_reasons(self.failed_seeds)}"
            return []
        if self.death is not None:
            self.failure, self.reason = self.death.failure, f"{self.death.reason} {self.progress}"
            if n_deaths := self.worker_deaths + self.node_losses:
                self.reason += f" (attempt {n_deaths + 1})"
        else:
            (failed,) = last[FAILED]
            self.failure, self.reason = Failure(failed["failure"]), failed["reason"]
        retries = self._make_retries()
        self.state = State.INTERRUPTED if retries else State.FAIL
        if retries:
            self.reason += "; retried"
        if len(retries) > 1:
            self.reason += " as two trials with half of the seeds each"
        return retries

    def _make_retries(self) -> list["Attempt"]:
        """Return the attempts that retry this one. [] if none is left or it would fail again."""
        seeds, failure = self.work.seeds, self.failure
        if failure is Failure.OUT_OF_MEMORY and len(seeds) > 1:
            # may_stop=False, because the scheduler must not stop only one of the halves
            return [
                Attempt(half, self.optuna_trial)
                for half in halve(replace(self.work, may_stop=False))
            ]
        if failure is Failure.NODE_LOST and self.node_losses < NODE_RETRIES:
            return [replace(self, node_losses=self.node_losses + 1)]
        is_worker_death = failure in (Failure.WORKER_DIED, Failure.OUT_OF_MEMORY)
        if self.death is not None and is_worker_death and self.worker_deaths < WORKER_RETRIES:
            return [replace(self, worker_deaths=self.worker_deaths + 1)]
        return []
