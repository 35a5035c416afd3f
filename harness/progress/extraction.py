"""How far an extraction of features is: a bar on a terminal, lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.method import Progress as Report


@contextmanager
def reporter(title: str, console: Console) -> Iterator[Report]:
    """A progress bar with the time left, or a line a quarter where it is no terminal.

    Nothing is shown before the first report: features from the cache take no time.
    """
    if not console.is_terminal:
        yield _Lines(title, console)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(title, total=None, start=True)

    def report(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()


class _Lines:
    """Prints a line at the start and after each quarter."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._quarter = -1

    def __call__(self, done: int, total: int) -> None:
        quarter = 4 * done // total if total else 4
        if quarter > self._quarter:
            self._quarter = quarter
            self._console.print(
                f"{self._title}: {done}/{total}", markup=False, highlight=False, soft_wrap=True
            )
