"""Tune's callback: hands results to the recorder and the view, keeps time limits, and stops."""

import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from ray import tune

from harness.config import StudyConfig
from harness.errors import ClusterError, UserError
from harness.messages import EPOCHS, MACHINE_LOAD
from harness.planning import Work
from harness.progress import View
from harness.ray import Death, error_text, kill_worker, last_error
from harness.recording import TrialRecorder
from harness.store import INTERRUPTED, OBJECTIVE, Failure, State
from harness.tuning.searcher import StudySearcher
from harness.wording import count

GAVE_UP = "the study was stopped, as others failed in a row"
MOST_REASONS = 5


class TooManyFailures(Exception):  # noqa: N818  # no error: the study says when it gives up
    """So many settings failed in a row that the study stops; str() says why they did."""


@dataclass(eq=False)
class Monitor(tune.Callback):
    """Follows the trials of one run on the driver.

    A store that fails in the middle of the run ends it, and so do workers that cannot even start
    and too many failures in a row: the error is raised at the next turn of Tune's loop, since Tune
    wraps what callbacks raise.

    searcher: knows what trials train, and how they ended.
    recorder, view: where results go.
    study: for its objective, time_limit and max_failures.
    check_interrupt: raises if the run is to stop.
    forget: told the work of a trial whose end is on record: it needs no checkpoint.
    failed_before: keys of settings that had failed in an earlier run; that they do so again says
        nothing new.
    end_trial: ends a trial of Tune's that is past its time limit, from outside; False: there is no
        way to.
    """

    searcher: StudySearcher
    recorder: TrialRecorder
    view: View
    study: StudyConfig
    check_interrupt: Callable[[], None]
    forget: Callable[[Work], None] = lambda work: None
    failed_before: Set[str] = frozenset()
    end_trial: Callable[[Any], bool] = kill_worker

    def __post_init__(self) -> None:
        self._running: dict[str, Any] = {}  # Tune's trials, by their ids
        self._error: Exception | None = None
        self._started = False
        self._failed: dict[str, str] = {}  # settings since one went well -> why

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Once per turn of Tune's loop, ten times a second or more."""
        self.check_interrupt()
        if self._error is not None:
            raise self._error
        if self.study.time_limit is not None:
            self._end_overdue(self.study.time_limit)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker took up a trial."""
        self._started = True
        self._start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Some epochs of a trial."""
        name, epochs = trial.trial_id, result.get(EPOCHS)
        if not epochs or name not in self._running:
            return
        objective = f"selection/{self.study.objective}"
        last = epochs[-1]
        self.searcher.attempts[name].where = f"at stage {last['stage']}, epoch {last['epoch']}"
        self._guard(lambda: self.recorder.epochs(name, epochs, result.get(MACHINE_LOAD, {})))
        seen = [one["metrics"][objective] for one in epochs if objective in one["metrics"]]
        at = f"{last['stage']} {last['epoch']}"
        self.view.progress(name, at, last["progress"], seen[-1] if seen else None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended, by itself or by the scheduler."""
        self._end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died; where none has taken up any trial yet, perhaps none can start."""
        if trial.trial_id not in self._running:  # died before it took the trial up
            given_up = self.searcher.attempts[trial.trial_id].state is State.FAIL
            if not self._started and given_up:
                self._error = ClusterError(f"no worker can start: {last_error(error_text(trial))}")
                return
            self._start(trial)
        self._end(trial.trial_id)

    def close(self) -> None:
        """Mark what still runs as interrupted; raises StoreError if the store is gone."""
        why = GAVE_UP if isinstance(self._error, TooManyFailures) else INTERRUPTED
        try:
            self.recorder.interrupt_all(why)
        finally:
            for name in self._running:
                self.view.end(name, State.INTERRUPTED, why)
            self._running.clear()

    def _start(self, trial: Any) -> None:
        name = trial.trial_id
        self._running[name] = trial
        attempt = self.searcher.attempts[name]
        attempt.started = time.monotonic()
        work = attempt.work
        self._guard(lambda: self.recorder.start(name, work))
        self.view.start(name, work.setting.label, len(work.seeds))

    def _end(self, name: str) -> None:
        """Write and show what became of a trial; one that cannot be written is left to close()."""
        one = self.searcher.attempts[name]
        if one.state is State.COMPLETE:
            self._guard(lambda: self.recorder.complete(name, one.final))
        else:
            self._guard(lambda: self.recorder.end(name, one.state, one.reason, one.failure))
        if self._error is not None:
            return
        del self._running[name]
        if one.state is State.COMPLETE:
            self.view.progress(name, "", 1.0, one.final["metrics"].get(OBJECTIVE))
        note = f"stopped {one.where}" if one.state is State.PRUNED else one.reason
        self.view.end(name, one.state, note)
        if one.state is State.FAIL:
            self._count(one.work.setting.key, one.reason)
        elif one.state is not State.INTERRUPTED:
            self._failed.clear()
        settled = one.failure in (Failure.ERROR, Failure.NON_FINITE)  # it would end so again
        goes_on = one.state is State.INTERRUPTED or (one.state is State.FAIL and not settled)
        if self._error is None and not goes_on:
            self.forget(one.work)

    def _count(self, key: str, reason: str) -> None:
        """Count a setting that failed, once, whichever of its seeds do; give up on too many."""
        if self._error is not None or key in self.failed_before:
            return
        self._failed[key] = reason
        n, most = len(self._failed), self.study.max_failures
        if most is None or n < most:
            return
        counts = Counter(self._failed.values()).most_common(MOST_REASONS)
        lines = [f"  {times} x {reason}" for reason, times in counts]
        head = f"stopped: {count(n, 'setting')} failed in a row (max_failures: {most})"
        self._error = TooManyFailures("\n".join([head, *lines]))

    def _guard(self, write: Callable[[], None]) -> None:
        if self._error is not None:
            return
        began = time.monotonic()
        try:
            write()
        except UserError as error:  # StoreError, or StudyLost
            self._error = error
        # while the driver waits for the store, trials wait for the driver: no limit passes
        waited = time.monotonic() - began
        for name in self._running:
            self.searcher.attempts[name].started += waited

    def _end_overdue(self, limit: float) -> None:
        """End trials that are past the limit.

        From the driver, because a worker that hangs in C code runs no thread of its own. Tune sees
        a dead worker; without a retry left it ends the trial. Where Tune does not say which process
        that is, the trial runs on to its end.
        """
        for name, trial in self._running.items():
            attempt = self.searcher.attempts[name]
            late = attempt.death is None and time.monotonic() - attempt.started >= limit
            if late and self.end_trial(trial):
                attempt.death = Death(Failure.TIME_LIMIT, f"time_limit of {limit:g} s passed")
