"""Tune's callback: hands results to the recorder and the view, keeps time limits, and stops."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune

from harness.faults import UserError
from harness.fusing import DIED_TWICE, Ending, Group, Pruned, dead, endings, member_id
from harness.live import TrialView, View
from harness.plan import Work
from harness.preflight import ClusterError
from harness.recorder import TrialRecorder
from harness.results import EPOCHS
from harness.schema import Failure, State
from harness.store_error import StoreError

RETRIED = "its worker process died; tried again"
INTERRUPTED = "the study was interrupted"


@dataclass
class _Running:
    """A Ray trial that is running now.

    open: places of the settings that have not ended.
    """

    trial: Any
    group: Group
    open: set[int]
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
        find_group: Callable[[str], Group],
        pruned: Pruned,
        recorder: TrialRecorder,
        view: View,
        objective: str,
        time_limit: float | None,
        check_interrupt: Callable[[], None],
    ) -> None:
        """Build the callback of one run.

        Args:
            find_group: Ray's trial id -> the works that it trains.
            pruned: the settings that the scheduler has stopped.
            recorder, view: where results go.
            objective: the selection metric that is shown.
            time_limit: seconds that a trial may run, fused ones each; None for ever.
            check_interrupt: raises if the run is to stop.
        """
        self._find_group = find_group
        self._pruned = pruned
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
        last = epochs[-1]
        running.where = f"at stage {last['stage']}, epoch {last['epoch']}"
        for place in sorted(running.open):
            own = [{**epoch, "means": epoch["means"][place]} for epoch in epochs]
            self._epochs(member_id(trial.trial_id, place), own)
        for place in sorted(running.open & self._pruned.of(trial.trial_id)):
            self._end(running, place, Ending(State.PRUNED))

    def _epochs(self, member: str, epochs: list[dict[str, Any]]) -> None:
        self._guard(lambda: self._recorder.epochs(member, epochs))
        last = epochs[-1]
        seen = [
            epoch["means"][self._objective]
            for epoch in epochs
            if epoch["stage"] == "selection" and self._objective in epoch["means"]
        ]
        value = seen[-1] if seen else None
        self._view.progress(member, f"{last['stage']} {last['epoch']}", last["progress"], value)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended, by itself or by the scheduler."""
        running = self._running.pop(trial.trial_id)
        pruned = self._pruned.of(trial.trial_id)
        self._end_all(running, endings(len(running.group), trial.last_result or None, pruned))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and Tune queues its trial again: from the start, as a run of its own."""
        running = self._running.pop(trial.trial_id, None)
        if running is not None:
            self._end_all(running, [Ending(State.INTERRUPTED, reason=RETRIED)] * len(running.group))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died again, or was ended by the time limit."""
        if trial.trial_id not in self._running:  # died before it took the trial up
            if not self._started:
                self._error = ClusterError(f"no worker can start: {last_line(trial.error_file)}")
                return
            self._start(trial)
        running = self._running.pop(trial.trial_id)
        n = len(running.group)
        if running.overdue:
            self._end_all(running, dead(n, Failure.TIME_LIMIT, running.overdue))
        else:
            reason = f"{DIED_TWICE} {running.where}"
            self._end_all(running, dead(n, Failure.WORKER_DIED, reason))

    def close(self) -> None:
        """Mark what still runs as interrupted; raises StoreError if the store is gone."""
        self._recorder.interrupt_all(INTERRUPTED)
        for running in self._running.values():
            for place in running.open:
                member = member_id(running.trial.trial_id, place)
                self._view.end(member, State.INTERRUPTED, INTERRUPTED)
        self._running.clear()

    def _start(self, trial: Any) -> None:
        group = self._find_group(trial.trial_id)
        # a trial that its worker's death brought back goes on without what was pruned
        places = set(range(len(group))) - self._pruned.of(trial.trial_id)
        self._running[trial.trial_id] = _Running(trial, group, places)
        for place in sorted(places):
            self._open(member_id(trial.trial_id, place), group[place])

    def _open(self, member: str, work: Work) -> None:
        self._guard(lambda: self._recorder.start(member, work))
        self._view.start(member, TrialView(work.setting.label, len(work.seeds)))

    def _end_all(self, running: _Running, ended: Sequence[Ending]) -> None:
        for place in sorted(running.open):
            self._end(running, place, ended[place])

    def _end(self, running: _Running, place: int, ending: Ending) -> None:
        """Write and show what became of one setting."""
        running.open.discard(place)
        member, note = member_id(running.trial.trial_id, place), ending.reason
        if ending.state is State.COMPLETE:
            self._guard(lambda: self._recorder.complete(member, ending.final))
            self._view.progress(member, "", 1.0, ending.final["objective"])
        elif ending.state is State.PRUNED:
            self._guard(lambda: self._recorder.prune(member))
            note = f"stopped {running.where}"
        elif ending.state is State.FAIL:
            self._guard(lambda: self._recorder.fail(member, ending.failure, ending.reason))
        else:
            self._guard(lambda: self._recorder.interrupt(member, ending.reason))
        self._view.end(member, ending.state, note)

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
            whole = limit * len(running.group)
            if running.overdue or time.monotonic() - running.started < whole:
                continue
            running.overdue = f"time_limit of {whole:g} s passed {running.where}"
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
