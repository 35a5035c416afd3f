"""What a person sees while a study runs: a table on a terminal, one line an event elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from harness.wording import clock
from reports.contract import State

# finished trials that stay in sight
FINISHED_SHOWN = 8
STYLE = {
    State.RUNNING: "cyan",
    State.COMPLETE: "green",
    State.PRUNED: "yellow",
    State.FAIL: "red",
    State.INTERRUPTED: "magenta",
}


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


class View(Protocol):
    """What the sweep tells whoever watches."""

    def __enter__(self) -> "View":
        """Begin to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing."""

    def start(self, trial_id: str, trial: TrialView) -> None:
        """A trial began."""

    def progress(self, trial_id: str, where: str, done: float, objective: float | None) -> None:
        """A trial got somewhere: `done` of its work (0 to 1), with `objective` percent, if any."""

    def end(self, trial_id: str, state: State, note: str) -> None:
        """A trial ended in a state; `note`: why, in words, or ""."""


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


class PlainView:
    """One line when a trial starts and one when it ends; for logs."""

    def __init__(self, console: Console, board: Board) -> None:
        self._console = console
        self._board = board

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def start(self, trial_id: str, trial: TrialView) -> None:
        """Print that a trial began."""
        self._board.start(trial_id, trial)
        self._print(f"start     {trial.label}")

    def progress(self, trial_id: str, where: str, done: float, objective: float | None) -> None:
        """Remember; a line an epoch would be too much."""
        _update(self._board.views[trial_id], where, done, objective)

    def end(self, trial_id: str, state: State, note: str) -> None:
        """Print what became of a trial."""
        view = self._board.views[trial_id]
        _end(view, state, note)
        parts = [f"{state.lower():<9} {view.label}", f"{view.seconds:.1f} s"]
        if view.objective is not None and state is State.COMPLETE:
            parts.insert(1, f"objective {view.objective:.2f}")
        if note:
            parts.append(note)
        eta = self._board.eta()
        if eta is not None and self._board.fraction() < 1:
            parts.append(f"{clock(eta)} left")
        self._print(f"[{self._board.ended()}/{self._board.trials}] " + "  ".join(parts))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A table of what runs and what has just ended, above a bar over the whole study."""

    def __init__(self, console: Console, board: Board) -> None:
        self._board = board
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("trials", total=board.trials, left="")
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=2, transient=False
        )

    def __enter__(self) -> "LiveView":
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def start(self, trial_id: str, trial: TrialView) -> None:
        """Show a trial."""
        self._board.start(trial_id, trial)

    def progress(self, trial_id: str, where: str, done: float, objective: float | None) -> None:
        """Show where a trial is."""
        _update(self._board.views[trial_id], where, done, objective)

    def end(self, trial_id: str, state: State, note: str) -> None:
        """Show what became of a trial."""
        _end(self._board.views[trial_id], state, note)

    def _render(self) -> Group:
        views = list(self._board.views.values())
        over = sorted((v for v in views if v.ended), key=lambda v: v.ended or 0.0)
        table = Table(box=None, expand=True, padding=(0, 1))
        for name in ("setting", "state", "stage", "objective", "seconds"):
            table.add_column(name, justify="right" if name in ("objective", "seconds") else "left")
        for view in [*over[-FINISHED_SHOWN:], *(v for v in views if not v.ended)]:
            objective = "" if view.objective is None else f"{view.objective:.2f}"
            table.add_row(
                Text(view.label, overflow="ellipsis", no_wrap=True),
                Text(view.state, style=STYLE[view.state]),
                Text(view.note or view.where, overflow="ellipsis", no_wrap=True),
                objective,
                f"{view.seconds:.0f}",
            )
        eta = self._board.eta()
        left = "" if eta is None else f"{clock(eta)} left"
        self._bar.update(
            self._task,
            completed=self._board.ended(),
            description=f"{100 * self._board.fraction():3.0f}%",
            left=left,
        )
        return Group(table, self._bar)


def make_view(console: Console, total: int, trials: int) -> View:
    """The view that suits where the output goes, of `total` seeds in `trials` trials."""
    kind: Callable[[Console, Board], View] = LiveView if console.is_terminal else PlainView
    return kind(console, Board(total, trials))


def line_printer(console: Console) -> Callable[[str], None]:
    """Prints plain lines, above the table where there is one; from any thread."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return say


def _update(view: TrialView, where: str, done: float, objective: float | None) -> None:
    view.where, view.progress = where, done
    if objective is not None:
        view.objective = objective


def _end(view: TrialView, state: State, note: str) -> None:
    view.state, view.note, view.ended = state, note, time.monotonic()
