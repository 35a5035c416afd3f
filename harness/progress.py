"""What a person sees while a study runs: a table on a terminal, one line an event elsewhere."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress import MofNCompleteColumn, Progress
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from harness.method import Progress as Report
from harness.wording import duration
from reports.contract import State, printable, printable_lines

FINISHED_SHOWN = 8  # trials that stay in sight when they have ended
STYLE = {
    State.RUNNING: "cyan",
    State.COMPLETE: "green",
    State.PRUNED: "yellow",
    State.FAIL: "red",
    State.INTERRUPTED: "magenta",
}


class SteadyConsole(Console):
    """A console that falls silent once nobody reads its output.

    In `ship-sweep ... | tee log`, Ctrl-C ends tee as well, while the study still has to close its
    trials and runs. By itself, rich would end the process at the next line that it prints.
    """

    def on_broken_pipe(self) -> None:
        """Discard all that is printed from now on; rich calls this when the reader has gone."""
        self.quiet = True
        # whatever writes to standard output without this console must not fail either
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def line_printer(console: Console) -> Callable[[str], None]:
    """Prints plain lines, above the table where there is one; from any thread."""

    def say(line: str) -> None:
        console.print(printable_lines(line), markup=False, highlight=False, soft_wrap=True)

    return say


@dataclass
class ShownTrial:
    """One trial as it is shown.

    seeds: its share of the study's work.
    progress: 0 to 1.
    objective: the last value seen, percent.
    """

    label: str
    seeds: int
    started: float
    state: State = State.RUNNING
    where: str = ""
    progress: float = 0.0
    objective: float | None = None
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time since its start."""
        return (self.ended or time.monotonic()) - self.started


class View:
    """The trials of a run, and how far the whole is: a table that is drawn anew, or lines.

    Of trials that have ended it keeps sums and the last few, so that a study of ten thousand looks
    at no more of them than a study of ten.

    table: for a terminal, None where lines are printed.
    ended: trials; one that was interrupted runs again and does not count.
    """

    def __init__(self, console: Console, seeds: int, trials: int, *, live: bool = True) -> None:
        """Begin with nothing.

        Args:
            console: where it goes.
            seeds: to run, over all trials.
            trials: to run.
            live: whether a terminal is the table's alone; else it gets lines, too.
        """
        self._seeds, self._trials = seeds, trials
        self._running: dict[str, ShownTrial] = {}  # in the order of their starts
        self._finished: deque[ShownTrial] = deque(maxlen=FINISHED_SHOWN)
        self._done = 0  # seeds of the trials that have ended
        self._started: float | None = None
        self.ended = 0
        self.table: Live | None = None
        self._say = line_printer(console)
        if live and console.is_terminal:
            self._say = lambda line: None
            self.table = Live(get_renderable=self.draw, console=console, refresh_per_second=2)

    def start(self, trial_id: str, label: str, seeds: int) -> None:
        """A trial began; the first one starts the clock, since Ray takes its time before."""
        now = time.monotonic()
        self._running[trial_id] = ShownTrial(label, seeds, now)
        self._started = self._started or now
        self._say(f"start     {label}")

    def progress(self, trial_id: str, where: str, done: float, objective: float | None) -> None:
        """A trial got somewhere; a line an epoch would be too much.

        Args:
            trial_id: as given to start().
            where: its stage and epoch, for people.
            done: part of its work that is done, 0 to 1.
            objective: the newest value, in percent; None: there is no new one.
        """
        trial = self._running[trial_id]
        trial.where, trial.progress = where, done
        trial.objective = trial.objective if objective is None else objective

    def end(self, trial_id: str, state: State, note: str) -> None:
        """A trial ended.

        Args:
            trial_id: as given to start().
            state: that it ended in.
            note: why, for people; "" where there is nothing to say.
        """
        trial = self._running.pop(trial_id)
        trial.state, trial.ended = state, time.monotonic()
        trial.where = printable(note) or trial.where
        self._finished.append(trial)
        if state is not State.INTERRUPTED:
            self._done += trial.seeds
            self.ended += 1
        parts = [f"[{self.ended}/{self._trials}] {state.lower():<9} {trial.label}"]
        if trial.objective is not None and state is State.COMPLETE:
            parts.append(f"objective {trial.objective:.2f}")
        parts += [f"{trial.seconds:.1f} s", note, self._time_left()]
        self._say("  ".join(filter(None, parts)))

    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        running = sum(trial.seeds * trial.progress for trial in self._running.values())
        return min(1.0, (self._done + running) / self._seeds) if self._seeds else 1.0

    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is a pace."""
        fraction = self.fraction()
        if fraction <= 0.01 or self._started is None:
            return None
        return (time.monotonic() - self._started) * (1 - fraction) / fraction

    def _time_left(self) -> str:
        return f"{duration(seconds)} left" if (seconds := self.seconds_left()) else ""

    def draw(self) -> Group:
        """What runs and what has just ended, above a bar over the whole study."""
        right = [Column(name, justify="right") for name in ("objective", "seconds")]
        table = Table("setting", "state", "stage", *right, box=None, expand=True, padding=(0, 1))
        for trial in [*self._finished, *self._running.values()]:
            table.add_row(
                Text(trial.label, overflow="ellipsis", no_wrap=True),
                Text(trial.state, style=STYLE[trial.state]),
                Text(trial.where, overflow="ellipsis", no_wrap=True),
                "" if trial.objective is None else f"{trial.objective:.2f}",
                f"{trial.seconds:.0f}",
            )
        bar, done = Table.grid(expand=True, padding=(0, 1)), self.fraction()
        told = f"{self.ended}/{self._trials} {self._time_left()}"
        bar.add_row(f"{done:4.0%}", ProgressBar(1.0, done), told)
        return Group(table, bar)


@contextmanager
def reporter(title: str, console: Console) -> Iterator[Report]:
    """How far a task is: a bar, or a line a quarter where it is no terminal.

    Nothing is shown before the first report: features from the cache take no time.
    """
    bar = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console)
    task, say, quarter = bar.add_task(title, total=None), line_printer(console), -1

    def report(done: int, total: int) -> None:
        nonlocal quarter
        if console.is_terminal:
            bar.start()
            bar.update(task, completed=done, total=total)
        elif (reached := 4 * done // total if total else 4) > quarter:
            quarter = reached
            say(f"{title}: {done}/{total}")

    try:
        yield report
    finally:
        if console.is_terminal:
            bar.stop()
