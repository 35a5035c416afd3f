"""What a person sees while a study runs: a table on a terminal, one line an event elsewhere."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from harness.progress.board import Board, TrialView
from harness.wording import clock, printable, printable_lines
from reports.contract import State

STYLE = {
    State.RUNNING: "cyan",
    State.COMPLETE: "green",
    State.PRUNED: "yellow",
    State.FAIL: "red",
    State.INTERRUPTED: "magenta",
}


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
        """A trial got somewhere.

        Args:
            trial_id: as given to start().
            where: its stage and epoch, for people.
            done: part of its work that is done, 0 to 1.
            objective: the newest value, in percent; None: there is no new one.
        """

    def end(self, trial_id: str, state: State, note: str) -> None:
        """A trial ended.

        Args:
            trial_id: as given to start().
            state: that it ended in.
            note: why, for people; "" where there is nothing to say.
        """


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
        self._board.progress(trial_id, where, done, objective)

    def end(self, trial_id: str, state: State, note: str) -> None:
        """Print what became of a trial."""
        view = self._board.end(trial_id, state, note)
        parts = [f"{state.lower():<9} {view.label}", f"{view.seconds:.1f} s"]
        if view.objective is not None and state is State.COMPLETE:
            parts.insert(1, f"objective {view.objective:.2f}")
        if note:
            parts.append(note)
        eta = self._board.eta()
        if eta is not None and self._board.fraction() < 1:
            parts.append(f"{clock(eta)} left")
        self._print(f"[{self._board.ended}/{self._board.trials}] " + "  ".join(parts))

    def _print(self, line: str) -> None:
        self._console.print(printable_lines(line), markup=False, highlight=False, soft_wrap=True)


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
        self._board.progress(trial_id, where, done, objective)

    def end(self, trial_id: str, state: State, note: str) -> None:
        """Show what became of a trial."""
        self._board.end(trial_id, state, note)

    def _render(self) -> Group:
        table = Table(box=None, expand=True, padding=(0, 1))
        for name in ("setting", "state", "stage", "objective", "seconds"):
            table.add_column(name, justify="right" if name in ("objective", "seconds") else "left")
        for view in [*self._board.finished, *self._board.running.values()]:
            objective = "" if view.objective is None else f"{view.objective:.2f}"
            table.add_row(
                Text(view.label, overflow="ellipsis", no_wrap=True),
                Text(view.state, style=STYLE[view.state]),
                Text(printable(view.note) or view.where, overflow="ellipsis", no_wrap=True),
                objective,
                f"{view.seconds:.0f}",
            )
        eta = self._board.eta()
        left = "" if eta is None else f"{clock(eta)} left"
        self._bar.update(
            self._task,
            completed=self._board.ended,
            description=f"{100 * self._board.fraction():3.0f}%",
            left=left,
        )
        return Group(table, self._bar)


def make_view(console: Console, total: int, trials: int, *, live: bool = True) -> View:
    """The view that suits where the output goes: a table on a terminal, else lines.

    Args:
        console: where it goes.
        total: seeds to run.
        trials: trials to run.
        live: whether a terminal is the table's alone; else it gets lines.
    """
    alone = live and console.is_terminal
    kind: Callable[[Console, Board], View] = LiveView if alone else PlainView
    return kind(console, Board(total, trials))


def line_printer(console: Console) -> Callable[[str], None]:
    """Prints plain lines, above the table where there is one; from any thread."""

    def say(line: str) -> None:
        console.print(printable_lines(line), markup=False, highlight=False, soft_wrap=True)

    return say
