"""Tune callback that records and shows results, enforces time limits, and stops the study."""

import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ray import tune

from harness.config import StudyConfig
from harness.errors import ClusterError, UserError
from harness.messages import EPOCHS, MACHINE_LOAD
from harness.planning import Work
from harness.progress import ProgressView
from harness.ray import Death, find_last_error, kill_worker, read_error_file
from harness.recording import TrialRecorder
from harness.store import INTERRUPTED, OBJECTIVE, Failure, State
from harness.tuning.searcher import StudySearcher
from harness.wording import count

MAX_LISTED_SEEDS = 3  # a label with more seeds has only their number and range
TOO_MANY_FAILED = "the study stopped because too many configurations failed in a row"
MAX_REASONS = 5  # distinct reasons that the message of TooManyFailures lists


class TooManyFailures(Exception):  # noqa: N818  # no error: the study defines the limit
    """Too many configurations failed in a row. str() lists the most common reasons."""


@dataclass(eq=False)
class Monitor(tune.Callback):
    """Tune callback of one run of a study, on the driver.

    The run ends if the store fails, if no worker can start, or if too many configurations fail in a
    row. The method that notices this stores the error, and `on_step_begin` raises it: exceptions of
    all other methods would be wrapped by Tune.

    Attributes:
        searcher: Searcher with the attempts of all trials.
        recorder: Writer of results to the store.
        view: Display of the progress.
        study: The study. Its resources must be resolved.
        check_interrupt: Function that raises an exception if the run has to stop.
        remove_checkpoint: Function that removes the checkpoint of a trial that will not be retried.
        failed_before: Keys of configurations that failed in an earlier run. Their failures do not
            count towards the limit of failures in a row.
        end_trial: Function that ends a trial of Tune that exceeds its time limit. Returns False if
            it cannot end the trial.
    """

    searcher: StudySearcher
    recorder: TrialRecorder
    view: ProgressView
    study: StudyConfig
    check_interrupt: Callable[[], None]
    remove_checkpoint: Callable[[Work], None] = lambda work: None
    failed_before: Set[str] = frozenset()
    end_trial: Callable[[Any], bool] = kill_worker

    def __post_init__(self) -> None:
        self._running: dict[str, Any] = {}  # Tune's trials by ID
        self._error: Exception | None = None  # to be raised by on_step_begin
        self._has_started = False  # whether any worker has started a trial in this run
        # configurations that have failed in a row: key -> reason
        self._failed: dict[str, str] = {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raise a pending error and end overdue trials. Called ten or more times per second.

        Raises:
            UserError: The store failed, or no worker can start.
            TooManyFailures: Too many configurations failed in a row.
            BaseException: Any error of `check_interrupt`.
        """
        self.check_interrupt()
        if self._error is not None:
            raise self._error
        if self.study.trial_timeout is not None:
            self._end_overdue(self.study.trial_timeout)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a worker has started a trial."""
        self._has_started = True
        self._start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record and show new epochs of a trial."""
        trial_id, epochs = trial.trial_id, result.get(EPOCHS)
        if not epochs or trial_id not in self._running:
            return
        objective = f"selection/{self.study.objective}"
        last = epochs[-1]
        attempt = self.searcher.attempts[trial_id]
        attempt.progress = f"after epoch {last['epoch']} of stage {last['stage']}"
        self._write_guarded(
            lambda: self.recorder.add_epochs(trial_id, epochs, result.get(MACHINE_LOAD, {}))
        )
        metrics = [epoch["metrics"] for epoch in epochs]
        values = [means[objective] for means in metrics if objective in means]
        position = f"{last['stage']} {last['epoch']}"
        self.view.progress(trial_id, position, last["progress"], values[-1] if values else None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that has ended by itself or was stopped by the scheduler."""
        self._end(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose worker died.

        If no worker of this run has started any trial and this trial is not retried, the run ends.
        """
        if trial.trial_id not in self._running:  # the worker died before it started the trial
            is_final = self.searcher.attempts[trial.trial_id].state is State.FAIL
            if not self._has_started and is_final:
                self._error = ClusterError(
                    f"no worker can start: {find_last_error(read_error_file(trial))}"
                )
                return
            self._start(trial)
        self._end(trial.trial_id)

    def close(self) -> None:
        """Mark trials that are still running as interrupted.

        Raises:
            StoreError: The store cannot be written.
        """
        reason = TOO_MANY_FAILED if isinstance(self._error, TooManyFailures) else INTERRUPTED
        try:
            self.recorder.interrupt_all(reason)
        finally:
            for trial_id in self._running:
                self.view.end(trial_id, State.INTERRUPTED, reason)
            self._running.clear()

    def _start(self, trial: Any) -> None:
        trial_id = trial.trial_id
        self._running[trial_id] = trial
        attempt = self.searcher.attempts[trial_id]
        attempt.started = time.monotonic()
        work = attempt.work
        self._write_guarded(lambda: self.recorder.start(trial_id, work))
        label, n_seeds = work.configuration.label, len(work.seeds)
        if n_seeds < len(self.study.seeds):
            label = f"{label} ({format_seeds(work.seeds)})"
        self.view.start(trial_id, label, n_seeds)

    def _end(self, trial_id: str) -> None:
        """Record and show how a trial ended.

        If the store cannot be written, the trial stays open, and `close` marks it as interrupted.
        """
        attempt = self.searcher.attempts[trial_id]
        state, work = attempt.state, attempt.work
        if state is State.COMPLETE:
            self._write_guarded(lambda: self.recorder.complete(trial_id, attempt.final))
        else:
            self._write_guarded(
                lambda: self.recorder.end(trial_id, state, attempt.reason, attempt.failure)
            )
        if self._error is not None:
            return
        del self._running[trial_id]
        if state is State.COMPLETE:
            self.view.progress(trial_id, "", 1.0, attempt.final["metrics"].get(OBJECTIVE))
        note = f"stopped {attempt.progress}" if state is State.PRUNED else attempt.reason
        self.view.end(trial_id, state, note)
        if state is State.FAIL:
            self._count_failure(work.configuration.key, attempt.reason)
        elif state is not State.INTERRUPTED:
            self._failed.clear()
        would_recur = attempt.failure in (Failure.ERROR, Failure.NON_FINITE)
        # a retry in this run, or in the next run of the study, resumes from the checkpoint
        needs_checkpoint = state is State.INTERRUPTED or (state is State.FAIL and not would_recur)
        if self._error is None and not needs_checkpoint:
            self.remove_checkpoint(work)

    def _count_failure(self, key: str, reason: str) -> None:
        """Count a failed configuration once, and end the run if too many failed in a row.

        Args:
            key: Key of the configuration.
            reason: Why it failed, in one line.
        """
        if self._error is not None or key in self.failed_before:
            return
        self._failed[key] = reason
        n_failed, limit = len(self._failed), self.study.max_consecutive_failures
        if limit is None or n_failed < limit:
            return
        counts = Counter(self._failed.values()).most_common(MAX_REASONS)
        lines = [f"  {n_times} x {reason}" for reason, n_times in counts]
        headline = (
            f"stopped: {count(n_failed, 'configuration')} failed in a row "
            f"(max_consecutive_failures: {limit})"
        )
        self._error = TooManyFailures("\n".join([headline, *lines]))

    def _write_guarded(self, write: Callable[[], None]) -> None:
        """Call `write`, and keep a UserError that it raises for `on_step_begin`.

        `write` is not called if an error is already pending. While the driver waits for the store,
        trials wait for the driver, so the time of the call does not count towards their time
        limits.
        """
        if self._error is not None:
            return
        start = time.monotonic()
        try:
            write()
        except UserError as error:  # StoreError, or StudyLost
            self._error = error
        seconds = time.monotonic() - start
        for trial_id in self._running:
            self.searcher.attempts[trial_id].started += seconds

    def _end_overdue(self, limit: float) -> None:
        """End trials that exceed the time limit.

        The driver ends them, because a worker that hangs in C code cannot end itself. Tune then
        notices that the worker is dead, and calls `on_trial_error`. If `end_trial` returns False,
        the trial continues.

        Args:
            limit: Time limit of a trial in seconds.
        """
        for trial_id, trial in self._running.items():
            attempt = self.searcher.attempts[trial_id]
            is_overdue = attempt.death is None and time.monotonic() - attempt.started >= limit
            if is_overdue and self.end_trial(trial):
                attempt.death = Death(
                    Failure.TIME_LIMIT, f"exceeded the trial_timeout of {limit:g} s"
                )


def format_seeds(seeds: Sequence[int]) -> str:
    """Return the seeds of a trial as text: "seed 3", "seeds 0, 2, 5" or "10 seeds from 0 to 12"."""
    if len(seeds) > MAX_LISTED_SEEDS:
        return f"{count(len(seeds), 'seed')} from {min(seeds)} to {max(seeds)}"
    noun = "seed" if len(seeds) == 1 else "seeds"
    return f"{noun} {', '.join(map(str, seeds))}"
