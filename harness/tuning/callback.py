"""Tune's callback: hands results to the recorder and the view, keeps time limits, and stops."""

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from ray import tune

from harness.cluster import address_of_result, error_text, kill_worker, was_raised_in_setup
from harness.config import StudyConfig
from harness.errors import ClusterError, UserError
from harness.planning import Work
from harness.progress import View
from harness.recording import TrialRecorder
from harness.store import INTERRUPTED
from harness.tuning.failure_streak import Streak, TooManyFailures
from harness.tuning.retry_policy import Ending
from harness.tuning.worker_deaths import Deaths, last_error
from harness.worker import EPOCHS, LOAD
from reports.contract import Failure, State

GAVE_UP = "the study was stopped, as others failed in a row"
# So many workers may die before one has taken a trial up: all that start at once, each tried again,
# as a node that cannot start workers says nothing of the other nodes.
DEATHS_A_PLACE, FEWEST_PLACES = 2, 2


@dataclass
class _Running:
    """A Ray trial that is running now."""

    trial: Any
    work: Work
    where: str = "before its first epoch"
    started: float = field(default_factory=time.monotonic)
    overdue: bool = False


class Monitor(tune.Callback):
    """Follows the trials of one run on the driver.

    A store that fails in the middle of the run ends it, and so do workers that cannot even start
    and too many failures in a row: the error is raised at the next turn of Tune's loop, since Tune
    wraps what callbacks raise.
    """

    def __init__(
        self,
        find_work: Callable[[str], Work],
        find_ending: Callable[[str], Ending],
        deaths: Deaths,
        recorder: TrialRecorder,
        view: View,
        study: StudyConfig,
        check_interrupt: Callable[[], None],
        forget: Callable[[Work], None] = lambda work: None,
        failed_before: Set[str] = frozenset(),
        places: int = FEWEST_PLACES,
    ) -> None:
        """Build the callback of one run.

        Args:
            find_work: Ray's trial id -> what it trains.
            find_ending: Ray's trial id, once it has ended -> what became of it.
            deaths: told of what may explain a worker's death.
            recorder, view: where results go.
            study: for its objective, time_limit and max_failures.
            check_interrupt: raises if the run is to stop.
            forget: told the work of a trial whose end is on record: it needs no checkpoint.
            failed_before: keys of settings that had failed in an earlier run; that they do so again
                says nothing new.
            places: where workers start side by side.
        """
        self._find_work = find_work
        self._find_ending = find_ending
        self._deaths = deaths
        self._recorder = recorder
        self._view = view
        self._objective = study.objective
        self._time_limit = study.time_limit
        self._streak = Streak(study.max_failures)
        self._failed_before = failed_before
        self._check_interrupt = check_interrupt
        self._forget = forget
        self._running: dict[str, _Running] = {}
        self._error: Exception | None = None
        self._started = False
        self._died_at_start = 0
        self._most_deaths_at_start = DEATHS_A_PLACE * max(FEWEST_PLACES, places)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Once per turn of Tune's loop, ten times a second or more."""
        self._check_interrupt()
        if self._error is not None:
            raise self._error
        if self._time_limit is not None:
            self._end_overdue(self._time_limit)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker took up a trial."""
        self._started = True
        self._start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Some epochs of a trial."""
        epochs = result.get(EPOCHS)
        running = self._running.get(trial.trial_id)
        if not epochs or running is None:
            return
        last = epochs[-1]
        running.where = f"at stage {last['stage']}, epoch {last['epoch']}"
        self._deaths.reached(trial.trial_id, running.where, address_of_result(result))
        self._guard(lambda: self._recorder.epochs(trial.trial_id, epochs, result.get(LOAD, {})))
        seen = [
            epoch["means"][self._objective]
            for epoch in epochs
            if epoch["stage"] == "selection" and self._objective in epoch["means"]
        ]
        value = seen[-1] if seen else None
        where = f"{last['stage']} {last['epoch']}"
        self._view.progress(trial.trial_id, where, last["progress"], value)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended, by itself or by the scheduler."""
        self._end(trial, self._find_ending(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died."""
        ending = self._find_ending(trial.trial_id)
        if trial.trial_id not in self._running:  # died before it took the trial up
            if not self._started and self._is_hopeless(error_text(trial), ending):
                return
            self._start(trial)
        self._end(trial, ending)

    def _is_hopeless(self, told: str, ending: Ending) -> bool:
        """Whether no worker can start: an error is raised as it is set up, or several died."""
        self._died_at_start += 1
        hopeless = was_raised_in_setup(told) or self._died_at_start >= self._most_deaths_at_start
        hopeless = hopeless or ending.state is State.FAIL
        if hopeless:
            self._error = ClusterError(f"no worker can start: {last_error(told)}")
        return hopeless

    def close(self) -> None:
        """Mark what still runs as interrupted; raises StoreError if the store is gone."""
        why = GAVE_UP if isinstance(self._error, TooManyFailures) else INTERRUPTED
        running, self._running = list(self._running.values()), {}
        try:
            self._recorder.interrupt_all(why)
        finally:
            for watched in running:
                self._view.end(watched.trial.trial_id, State.INTERRUPTED, why)

    def _start(self, trial: Any) -> None:
        work = self._find_work(trial.trial_id)
        self._running[trial.trial_id] = _Running(trial, work)
        self._deaths.began(trial.trial_id)
        self._guard(lambda: self._recorder.start(trial.trial_id, work))
        self._view.start(trial.trial_id, work.setting.label, len(work.seeds))

    def _end(self, trial: Any, ending: Ending) -> None:
        """Write and show what became of a trial."""
        running = self._running.pop(trial.trial_id)
        self._deaths.ended(trial.trial_id)
        self._guard(lambda: self._write(trial.trial_id, ending))
        note = ending.reason
        if ending.state is State.COMPLETE:
            self._view.progress(trial.trial_id, "", 1.0, ending.final["objective"])
        elif ending.state is State.PRUNED:
            note = f"stopped {running.where}"
        self._view.end(trial.trial_id, ending.state, note)
        self._count(running.work, ending)
        if self._error is None and _is_over(ending):
            self._forget(running.work)

    def _write(self, trial_id: str, ending: Ending) -> None:
        if ending.state is State.COMPLETE:
            self._recorder.complete(trial_id, ending.final)
        else:
            self._recorder.end(trial_id, ending.state, ending.reason, ending.failure)

    def _count(self, work: Work, ending: Ending) -> None:
        if ending.state in (State.COMPLETE, State.PRUNED):
            self._streak.went_well()
        elif (
            ending.state is State.FAIL
            and self._error is None
            and work.setting.key not in self._failed_before
        ):
            self._error = self._streak.failed(work.setting.key, ending.reason)

    def _guard(self, write: Callable[[], None]) -> None:
        if self._error is not None:
            return
        try:
            write()
        except UserError as error:  # StoreError, or StudyLost
            self._error = error

    def _end_overdue(self, limit: float) -> None:
        """Kill workers that are past the limit.

        From the driver, because a worker that hangs in C code runs no thread of its own. Tune sees
        a dead worker; without a retry left it ends the trial. Where Tune does not say which process
        that is, the trial runs on to its end.
        """
        for running in self._running.values():
            if running.overdue or time.monotonic() - running.started < limit:
                continue
            running.overdue = True
            if kill_worker(running.trial):
                self._deaths.overdue(running.trial.trial_id, limit)


def _is_over(ending: Ending) -> bool:
    """Whether a setting will not go on from where it was, in this run or in the next."""
    failed = ending.state is State.FAIL and ending.failure in (Failure.ERROR, Failure.NON_FINITE)
    return failed or ending.state in (State.COMPLETE, State.PRUNED)
