"""The trials of a run as they are shown, and how far the whole of them is."""

import time
from collections import deque
from dataclasses import dataclass, field

from reports.contract import State

# finished trials that stay in sight
FINISHED_SHOWN = 8


@dataclass
class TrialView:
    """One trial as it is shown.

    weight: its share of the study's work, in seeds.
    progress: 0 to 1.
    objective: the last value seen, percent.
    """

    label: str
    weight: int
    state: State = State.RUNNING
    where: str = ""
    progress: float = 0.0
    objective: float | None = None
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time since its start."""
        return (self.ended or time.monotonic()) - self.started


@dataclass
class Board:
    """The trials of this run, and how far the whole is.

    Of trials that have ended it keeps sums and the last few, so that a study of ten thousand looks
    at no more of them than a study of ten.

    total: seeds to run.
    trials: how many trials there are to run.
    running: by the id that start() was given, in the order of their starts.
    finished: the last ones that ended, in the order of their ends.
    ended: how many have ended; one that was interrupted runs again and does not count.
    """

    total: int
    trials: int
    running: dict[str, TrialView] = field(default_factory=dict)
    finished: deque[TrialView] = field(default_factory=lambda: deque(maxlen=FINISHED_SHOWN))
    ended: int = 0
    started: float | None = None
    _done: int = 0  # seeds of the trials that have ended

    def start(self, trial_id: str, trial: TrialView) -> None:
        """A trial began; the first one starts the clock, since Ray takes its time before."""
        if self.started is None:
            self.started = trial.started
        self.running[trial_id] = trial

    def progress(self, trial_id: str, where: str, done: float, objective: float | None) -> None:
        """A running trial got somewhere; see View."""
        view = self.running[trial_id]
        view.where, view.progress = where, done
        if objective is not None:
            view.objective = objective

    def end(self, trial_id: str, state: State, note: str) -> TrialView:
        """A running trial ended; see View."""
        view = self.running.pop(trial_id)
        view.state, view.note, view.ended = state, note, time.monotonic()
        self.finished.append(view)
        if state is not State.INTERRUPTED:
            self._done += view.weight
            self.ended += 1
        return view

    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        running = sum(view.weight * view.progress for view in self.running.values())
        return min(1.0, (self._done + running) / self.total) if self.total else 1.0

    def eta(self) -> float | None:
        """Seconds left at the pace so far; None before there is a pace."""
        fraction = self.fraction()
        if fraction <= 0.01 or self.started is None:
            return None
        return (time.monotonic() - self.started) * (1 - fraction) / fraction
