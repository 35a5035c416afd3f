"""What a person sees while a study runs: a line an event, and on a terminal bars below them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn

from harness.method import Progress as Report
from harness.store import State
from harness.wording import duration, printable_lines


class SteadyConsole(Console):
    """A console that falls silent once nobody reads its output, or the disk of a log is full.

    In `ship-sweep ... | tee log`, Ctrl-C ends tee as well, while the study still has to close its
    trials and runs. By itself, rich would end the process at the next line that it prints.
    """

    def print(self, *objects: Any, **keys: Any) -> None:
        """Print, or begin to be silent."""
        try:
            super().print(*objects, **keys)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Discard all that is printed from now on; rich calls this when the reader has gone."""
        self.quiet = True
        # whatever writes to standard output without this console must not fail either
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def line_printer(console: Console) -> Callable[[str], None]:
    """Prints plain lines, above the bars where there are some; from any thread."""

    def say(line: str) -> None:
        console.print(printable_lines(line), markup=False, highlight=False, soft_wrap=True)

    return say


class View:
    """The trials of a run, and how far the whole is: a line for each that begins or ends.

    A study of ten thousand trials looks at no more of them than a study of ten: at those that run.

    bars: of the study and of each trial that runs; shown on a terminal alone.
    ended: trials; one that was interrupted runs again and does not count.
    """

    def __init__(self, console: Console, seeds: int, trials: int, *, live: bool = True) -> None:
        """Begin with nothing.

        Args:
            console: where it goes.
            seeds: to run, over all trials.
            trials: to run.
            live: whether a terminal has bars.
        """
        self._seeds, self._trials, self._say = seeds, trials, line_printer(console)
        self._running: dict[str, Task] = {}
        self._done = 0  # seeds of the trials that have ended
        self.ended = 0
        told = TextColumn("{task.percentage:>3.0f}% {task.description}", markup=False)
        off = not (live and console.is_terminal)
        self.bars = Progress(BarColumn(), told, console=console, refresh_per_second=2, disable=off)
        self._whole = self._bar(f"0/{trials}  starting the first trials", start=False)

    def _bar(self, text: str, *, start: bool = True, **fields: Any) -> Task:
        self.bars.add_task(text, start=start, total=1.0, **fields)
        return self.bars.tasks[-1]

    def start(self, trial_id: str, label: str, seeds: int) -> None:
        """A trial began; the first one starts the clock, since Ray takes its time before."""
        self._running[trial_id] = self._bar(label, label=label, seeds=seeds, objective="")
        self.bars.start_task(self._whole.id)
        self._show_whole()
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
        if objective is not None:
            trial.fields["objective"] = f"objective {objective:.2f}"
        told = (trial.fields["label"], where, trial.fields["objective"])
        self.bars.update(trial.id, completed=done, description="  ".join(filter(None, told)))
        self._show_whole()

    def end(self, trial_id: str, state: State, note: str) -> None:
        """A trial ended.

        Args:
            trial_id: as given to start().
            state: that it ended in.
            note: why, for people; "" where there is nothing to say.
        """
        trial = self._running.pop(trial_id)
        if state is not State.INTERRUPTED:
            self._done += trial.fields["seeds"]
            self.ended += 1
            self._trials = max(self._trials, self.ended)  # halves of a trial end one by one
        named = f"[{self.ended}/{self._trials}] {state.lower():<9} {trial.fields['label']}"
        reached = trial.fields["objective"] if state is State.COMPLETE else ""
        parts = (named, reached, f"{trial.elapsed:.1f} s", note, self._time_left())
        self._say("  ".join(filter(None, parts)))
        self.bars.remove_task(trial.id)
        self._show_whole()

    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        running = sum(one.fields["seeds"] * one.completed for one in self._running.values())
        return min(1.0, (self._done + running) / self._seeds) if self._seeds else 1.0

    def _time_left(self) -> str:
        """At the pace so far; "" before there is a pace."""
        fraction = self.fraction()
        elapsed = self._whole.elapsed
        if fraction <= 0.01 or elapsed is None:
            return ""
        return f"{duration(elapsed * (1 - fraction) / fraction)} left"

    def _show_whole(self) -> None:
        told = f"{self.ended}/{self._trials}  {self._time_left()}"
        self.bars.update(self._whole.id, completed=self.fraction(), description=told)


@contextmanager
def reporter(title: str, console: Console) -> Iterator[Report]:
    """How far a task is: a bar, or a line a quarter where it is no terminal.

    Nothing is shown before the first report: features from the cache take no time.
    """
    say = line_printer(console)
    quarter = -1  # the last one that has had its line
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task(title, total=None)

    def report(done: int, total: int) -> None:
        nonlocal quarter
        bar.start()
        bar.update(task, completed=done, total=total)
        reached = 4 * done // total if total else 4
        if not console.is_terminal and reached > quarter:
            quarter = reached
            say(f"{title}: {done}/{total}")

    try:
        yield report
    finally:
        bar.stop()
