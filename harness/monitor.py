"""Tune's callback: hands results to the recorder and the view, keeps time limits, and stops."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from harness.faults import UserError
from harness.live import TrialView, View
from harness.plan import Work
from harness.preflight import ClusterError
from harness.recorder import TrialRecorder
from harness.schema import Failure, State
from harness.tracking import StoreError
from harness.trainable import EPOCHS, FAILED, FINAL

RETRIED = "its worker process died; tried again"
DIED_TWICE = "its worker process died twice (out of memory?)"
INTERRUPTED = "the study was interrupted"


@dataclass
class _Running:
    """A Ray trial that is running now."""

    trial: Any
    work: Work
    where: str = "before its first epoch"
    started: float = field(default_factory=time.monotonic)
    overdue: str = ""


class Monitor(tune.Callback):
    """Follows the trials of one run on the driver.

    A store that fails in the middle of the run ends it, and so do workers that cannot even start:
    the error is raised at the next turn of Tune's loop, since Tune wraps what callbacks raise.
    """

    def __init__(
        self,
        find_work: Callable[[str], Work],
        recorder: TrialRecorder,
        view: View,
        objective: str,
        time_limit: float | None,
        check_interrupt: Callable[[], None],
    ) -> None:
        """Build the callback of one run.

        Args:
            find_work: Ray's trial id -> its work.
            recorder, view: where results go.
            objective: the selection metric that is shown.
            time_limit: seconds that a trial may run; None for ever.
            check_interrupt: raises if the run is to stop.
        """
        self._find_work = find_work
        self._recorder = recorder
        self._view = view
        self._objective = objective
        self._time_limit = time_limit
        self._check_interrupt = check_interrupt
        self._running: dict[str, _Running] = {}
        self._error: UserError | None = None
        self._started = False

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
        self._guard(lambda: self._recorder.epochs(trial.trial_id, epochs))
        last = epochs[-1]
        running.where = f"at stage {last['stage']}, epoch {last['epoch']}"
        seen = [
            epoch["means"][self._objective]
            for epoch in epochs
            if epoch["stage"] == "selection" and self._objective in epoch["means"]
        ]
        where = f"{last['stage']} {last['epoch']}"
        value = seen[-1] if seen else None
        self._view.progress(trial.trial_id, where, last["progress"], value)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended, by itself or by the scheduler."""
        last: Mapping[str, Any] = trial.last_result or {}
        if FAILED in last:
            self._fail(trial, Failure(last[FAILED]["failure"]), last[FAILED]["reason"])
            return
        running = self._running.pop(trial.trial_id)
        if FINAL in last:
            self._guard(lambda: self._recorder.complete(trial.trial_id, last[FINAL]))
            self._view.progress(trial.trial_id, "", 1.0, last[FINAL]["objective"])
            self._view.end(trial.trial_id, State.COMPLETE, "")
        else:
            self._guard(lambda: self._recorder.prune(trial.trial_id))
            self._view.end(trial.trial_id, State.PRUNED, f"stopped {running.where}")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune queues its trial again: from the start, as a run of its own."""
        if self._running.pop(trial.trial_id, None) is not None:
            self._guard(lambda: self._recorder.interrupt(trial.trial_id, RETRIED))
            self._view.end(trial.trial_id, State.INTERRUPTED, RETRIED)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died again, or was ended by the time limit."""
        if trial.trial_id not in self._running:  # died before it took the trial up
            if not self._started:
                self._error = ClusterError(f"no worker can start: {last_line(trial.error_file)}")
                return
            self._start(trial)
        running = self._running[trial.trial_id]
        if running.overdue:
            self._fail(trial, Failure.TIME_LIMIT, running.overdue)
        else:
            self._fail(trial, Failure.WORKER_DIED, f"{DIED_TWICE} {running.where}")

    def close(self) -> None:
        """Mark what still runs as interrupted; raises StoreError if the store is gone."""
        self._recorder.interrupt_all(INTERRUPTED)
        for trial_id in list(self._running):
            del self._running[trial_id]
            self._view.end(trial_id, State.INTERRUPTED, INTERRUPTED)

    def _start(self, trial: Any) -> None:
        work = self._find_work(trial.trial_id)
        self._running[trial.trial_id] = _Running(trial, work)
        self._guard(lambda: self._recorder.start(trial.trial_id, work))
        self._view.start(trial.trial_id, TrialView(work.setting.label, len(work.seeds)))

    def _fail(self, trial: Any, failure: Failure, reason: str) -> None:
        del self._running[trial.trial_id]
        self._guard(lambda: self._recorder.fail(trial.trial_id, failure, reason))
        self._view.end(trial.trial_id, State.FAIL, reason)

    def _guard(self, write: Callable[[], None]) -> None:
        if self._error is not None:
            return
        try:
            write()
        except StoreError as error:
            self._error = error

    def _end_overdue(self, limit: float) -> None:
        """Kill workers that are past the limit.

        From the driver, because a worker that hangs in C code runs no thread of its own. Tune sees
        a dead worker; without a retry left it ends the trial.
        """
        for running in self._running.values():
            if running.overdue or time.monotonic() - running.started < limit:
                continue
            running.overdue = f"time_limit of {limit:g} s passed {running.where}"
            actor = running.trial.temporary_state.ray_actor
            if actor is not None:
                running.trial.max_failures = 0
                ray.kill(actor)


def last_line(file: str | None) -> str:
    """The last line of a trial's error file, which names the cause."""
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n") if file else []
    except OSError:
        lines = []
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else "its process ended without a word"
