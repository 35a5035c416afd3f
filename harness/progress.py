"""Progress output of a running study: one line per event, and progress bars on a terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn

from harness.method import Progress as Report
from harness.store import State
from harness.wording import escape_controls_in_lines, format_duration


class SteadyConsole(Console):
    """A console that stops printing when its output is closed or the disk of a log is full.

    For example, Ctrl-C in `ship-sweep ... | tee log` also ends tee. rich would end this process at
    the next line, but the study still has to close its trials and runs.
    """

    def print(self, *objects: Any, **keys: Any) -> None:
        """Print objects. If that fails, discard this and all later output."""
        try:
            super().print(*objects, **keys)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Discard all later output. rich calls this if it prints to a closed pipe."""
        self.quiet = True
        # other code writes to standard output directly, and must not fail either
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, sys.stdout.fileno())
        os.close(null_device)


def make_line_printer(console: Console) -> Callable[[str], None]:
    """Return a function that prints a plain line above any progress bars, from any thread."""

    def print_line(line: str) -> None:
        console.print(escape_controls_in_lines(line), markup=False, highlight=False, soft_wrap=True)

    return print_line


class ProgressView:
    """Display of trials and total progress: bars, and a line for each start and end of a trial.

    The cost of an update depends only on the number of running trials.

    Attributes:
        bars: Progress bars of the study and of each running trial. Shown only on a terminal.
        ended: Number of trials that have ended. Interrupted trials are retried and do not count.
    """

    def __init__(self, console: Console, seeds: int, trials: int, *, live: bool = True) -> None:
        """Create the display.

        Args:
            console: Console of the output.
            seeds: Total number of seeds to run, over all trials.
            trials: Number of trials to run.
            live: Whether to show progress bars if the console is a terminal.
        """
        self._seeds, self._trials, self._print_line = seeds, trials, make_line_printer(console)
        self._running: dict[str, Task] = {}
        self._done = 0  # seeds of the trials that have ended
        self.ended = 0
        text = TextColumn("{task.percentage:>3.0f}% {task.description}", markup=False)
        no_bars = not (live and console.is_terminal)
        self.bars = Progress(
            BarColumn(), text, console=console, refresh_per_second=2, disable=no_bars
        )
        self._total_bar = self._add_bar(f"0/{trials}  starting the first trials", start=False)

    def _add_bar(self, text: str, *, start: bool = True, **fields: Any) -> Task:
        self.bars.add_task(text, start=start, total=1.0, **fields)
        return self.bars.tasks[-1]

    def start(self, trial_id: str, label: str, seeds: int) -> None:
        """Show the start of a trial. The first trial also starts the clock of the total progress.

        Args:
            trial_id: ID of the trial in later calls.
            label: Label of its configuration.
            seeds: Number of its seeds.
        """
        self._running[trial_id] = self._add_bar(label, label=label, seeds=seeds, objective="")
        self.bars.start_task(self._total_bar.id)
        self._update_total_bar()
        self._print_line(f"start     {label}")

    def progress(self, trial_id: str, stage: str, share: float, objective: float | None) -> None:
        """Update the progress bar of a trial. No line is printed.

        Args:
            trial_id: ID of the trial, as in `start`.
            stage: Stage and epoch of the trial, as text.
            share: Share of the trial that is done, 0 to 1.
            objective: Newest value of the objective in percent. None keeps the previous one.
        """
        trial = self._running[trial_id]
        if objective is not None:
            trial.fields["objective"] = f"objective {objective:.2f}"
        parts = (trial.fields["label"], stage, trial.fields["objective"])
        self.bars.update(trial.id, completed=share, description="  ".join(filter(None, parts)))
        self._update_total_bar()

    def end(self, trial_id: str, state: State, note: str) -> None:
        """Show the end of a trial: print a line, and remove its bar.

        Args:
            trial_id: ID of the trial, as in `start`.
            state: Final state of the trial.
            note: Reason for the state, or "".
        """
        trial = self._running.pop(trial_id)
        if state is not State.INTERRUPTED:
            self._done += trial.fields["seeds"]
            self.ended += 1
            self._trials = max(self._trials, self.ended)  # a retry may split a trial in two
        title = f"[{self.ended}/{self._trials}] {state.lower():<9} {trial.fields['label']}"
        objective = trial.fields["objective"] if state is State.COMPLETE else ""
        parts = (title, objective, f"{trial.elapsed:.1f} s", note, self._time_left())
        self._print_line("  ".join(filter(None, parts)))
        self.bars.remove_task(trial.id)
        self._update_total_bar()

    def fraction(self) -> float:
        """Return the share of all seeds' work that is done, 0 to 1."""
        running = sum(task.fields["seeds"] * task.completed for task in self._running.values())
        return min(1.0, (self._done + running) / self._seeds) if self._seeds else 1.0

    def _time_left(self) -> str:
        """Return the time left at the present pace as text, or "" until 1% is done."""
        fraction = self.fraction()
        elapsed = self._total_bar.elapsed
        if fraction <= 0.01 or elapsed is None:
            return ""
        return f"{format_duration(elapsed * (1 - fraction) / fraction)} left"

    def _update_total_bar(self) -> None:
        text = f"{self.ended}/{self._trials}  {self._time_left()}"
        self.bars.update(self._total_bar.id, completed=self.fraction(), description=text)


@contextmanager
def show_progress(title: str, console: Console) -> Iterator[Report]:
    """Provide a function that shows a task's progress.

    On a terminal the function shows a bar. Otherwise it prints a line for each quarter of the task.
    If it is never called, e.g. because all features are cached, nothing is shown.

    Args:
        title: Title of the task.
        console: Console of the output.

    Yields:
        The function. Its arguments are the number of finished items and the total.
    """
    print_line = make_line_printer(console)
    quarter = -1  # last quarter for which a line was printed
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task(title, total=None)

    def report(n_done: int, total: int) -> None:
        nonlocal quarter
        bar.start()
        bar.update(task, completed=n_done, total=total)
        quarters = 4 * n_done // total if total else 4
        if not console.is_terminal and quarters > quarter:
            quarter = quarters
            print_line(f"{title}: {n_done}/{total}")

    try:
        yield report
    finally:
        bar.stop()
