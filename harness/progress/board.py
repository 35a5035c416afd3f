"""The trials of a run as they are shown, and how far the whole of them is."""

import time
from dataclasses import dataclass, field

from reports.contract import State


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

    total: seeds to run.
    trials: how many trials there are to run.
    """

    total: int
    trials: int
    views: dict[str, TrialView] = field(default_factory=dict)
    started: float | None = None

    def start(self, trial_id: str, trial: TrialView) -> None:
        """A trial began; the first one starts the clock, since Ray takes its time before."""
        if self.started is None:
            self.started = trial.started
        self.views[trial_id] = trial

    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        done = sum(
            view.weight * (view.progress if view.state is State.RUNNING else 1.0)
            for view in self.views.values()
            if view.state is not State.INTERRUPTED
        )
        return min(1.0, done / self.total) if self.total else 1.0

    def eta(self) -> float | None:
        """Seconds left at the pace so far; None before there is a pace."""
        fraction = self.fraction()
        if fraction <= 0.01 or self.started is None:
            return None
        return (time.monotonic() - self.started) * (1 - fraction) / fraction

    def ended(self) -> int:
        """Trials that have ended."""
        over = (State.COMPLETE, State.PRUNED, State.FAIL)
        return sum(view.state in over for view in self.views.values())
