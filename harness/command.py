"""What the three commands share: what their --help shows, and how they start and end."""

import gc
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from harness.removed import REMOVED

BROKEN, USER_MISTAKE, INCOMPLETE, INTERRUPTED = 1, 2, 3, 130  # exit codes
READER_GONE = 141  # an exit code


class Command(TyperCommand):
    """A command that says what became of removed options.

    Its --help shows no kind of value of a flag, as some versions of typer do.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            typer.Exit: One or more of them are removed options.
        """
        options = [argument.partition("=")[0] for argument in args]
        sentences = [REMOVED[option] for option in options if option in REMOVED]
        if sentences:
            typer.echo("\n".join(sentences), err=True)
            raise typer.Exit(USER_MISTAKE)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options, --help among them."""
        return _plain(super().get_params(ctx))


class Group(TyperGroup):
    """The same with subcommands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, --help among them."""
        return _plain(super().get_params(ctx))


def _plain(found: list[Any]) -> list[Any]:
    for one in found:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return found


def start(app: typer.Typer) -> None:
    """Run a script's command to its end."""
    collect_rarely()
    steady_output()
    try:
        with reader_may_leave():
            app()
    except KeyboardInterrupt:  # outside of what typer runs
        sys.exit(INTERRUPTED)


def steady_output() -> None:
    """Let standard output show ? for what the terminal's encoding has not, e.g. ± in locale C.

    A stream that was closed (`>&-`) goes nowhere, and its number to no file that is opened later.
    COLUMNS=0, which some terminals say, is no width: rich would print nothing at all.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    if os.environ.get("COLUMNS", "").strip("0") == "":
        os.environ.pop("COLUMNS", None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def collect_rarely() -> None:
    """Look for garbage less often than Python does by itself (at 700 objects).

    Importing makes many objects and hardly any garbage, and so do writing to MLflow and a report.
    To look at Python's own pace takes a tenth of the time of a study that has nothing to do, of
    what a trial costs, and of a large report.
    """
    gc.set_threshold(200_000, 20, 50)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Where a command inside fails because nobody reads what it prints, it ends with 141.

    That is what a shell says of a program that SIGPIPE ends (128 + 13), as in `ship-report NAME |
    true`. The signal itself stays ignored: it would end the program where a server closes a
    connection, too. rich and click each make an exit code 1 of what printing into a closed pipe
    raises.
    """
    try:
        output = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # no standard output at all
        yield
        return
    try:
        yield
    except SystemExit as end:
        if end.code == 1 and _has_no_reader(output):
            raise SystemExit(READER_GONE) from None
        raise
    finally:
        os.close(output)


def _has_no_reader(output: int) -> bool:
    """Whether a file descriptor is a pipe whose other end was closed."""
    poll = select.poll()
    poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
