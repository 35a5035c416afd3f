"""Shared behavior of the three commands: --help, usage errors, start and exit."""

import gc
import io
import os
import select
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from harness.removed import REMOVED
from harness.wording import escape_controls_in_lines, find_closest, mask_secrets, show

# Exit codes. Python also exits with 1 after an unexpected error.
CHECK_FAILED, USER_MISTAKE, INCOMPLETE, INTERRUPTED, READER_GONE = 1, 2, 3, 130, 141
# click's UsageError. It is taken from typer, because recent versions have their own copy of click.
_USAGE_ERROR: Final[Any] = typer.BadParameter.__mro__[1]


class Command(TyperCommand):
    """A command with usage errors of one line, and a message for each removed option.

    Its --help is the same under all versions of typer. Recent versions would show the value types
    of flags and arguments, and {NAME} for a required argument NAME.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            typer.Exit: The arguments are invalid, or one of them is a removed option.
        """
        refuse_removed(args)
        with _one_line_errors(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: The command refuses its arguments, or its exit code is not 0.
        """
        with _one_line_errors(ctx):
            return super().invoke(ctx)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's arguments and options, including --help."""
        return _hide_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line, with required arguments as NAME."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class CommandGroup(TyperGroup):
    """A command with subcommands, and with the usage errors and --help of `Command`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the subcommand's name.

        Raises:
            typer.Exit: The options are invalid, or the command line has a removed option.
        """
        if not args and self.no_args_is_help:
            return super().parse_args(ctx, args)
        refuse_removed(args)
        with _one_line_errors(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the subcommand that the first argument names.

        Raises:
            typer.Exit: There is no such subcommand.
        """
        if self.get_command(ctx, args[0]) is None:
            refuse([self.unknown_command(ctx, args[0])])
        return super().resolve_command(ctx, args)

    def unknown_command(self, ctx: Any, name: str) -> str:
        """Return the message for the name of an unknown subcommand."""
        choices = self.list_commands(ctx)
        match = find_closest(name, choices)
        suggestion = f"did you mean {match}? " if match else ""
        return f"unknown command {show(name)} ({suggestion}choices: {', '.join(choices)})"

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's options, including --help."""
        return _hide_types(super().get_params(ctx))


def refuse(lines: Iterable[str]) -> NoReturn:
    """Print lines to standard error, and exit with 2.

    Raises:
        typer.Exit: Always, with exit code 2.
    """
    for line in lines:
        typer.echo(escape_controls_in_lines(line), err=True)
    raise typer.Exit(USER_MISTAKE)


def refuse_removed(args: Iterable[str]) -> None:
    """Refuse removed options, each with a message that says what to use instead.

    Raises:
        typer.Exit: At least one of the arguments is a removed option.
    """
    options = [argument.partition("=")[0] for argument in args]
    messages = [REMOVED[option] for option in options if option in REMOVED]
    if messages:
        refuse(messages)


@contextmanager
def _one_line_errors(ctx: Any) -> Iterator[None]:
    """Print a usage error as one line, and exit with 2."""
    try:
        yield
    except _USAGE_ERROR as error:
        message = " ".join(mask_secrets(error.format_message()).split()).removesuffix(".")
        refuse([f"{message}. See {ctx.command_path} --help"])


def _hide_types(params: list[Any]) -> list[Any]:
    """Hide the value types of flags and arguments in --help, and return the parameters."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
        if param.param_type_name == "argument":
            # recent versions of typer call this method, others ignore it
            param.display_type_rich = lambda ctx: None
    return params


def start(app: typer.Typer) -> None:
    """Run a script's app, and exit with its exit code."""
    collect_rarely()
    make_output_robust()
    try:
        with exit_when_reader_leaves():
            app()
    except KeyboardInterrupt:  # typer handles only those that are raised inside of app()
        sys.exit(INTERRUPTED)


def make_output_robust() -> None:
    """Make standard output robust against unusual terminals.

    - Characters that the encoding lacks, e.g. ± in locale C, become ?.
    - A closed stream (`>&-`) is replaced by the null device. Otherwise a file that is opened later
      could get its descriptor, and the output.
    - COLUMNS=0, which some terminals set, is removed, because rich would print nothing.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    if os.environ.get("COLUMNS", "").strip("0") == "":
        os.environ.pop("COLUMNS", None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def collect_rarely() -> None:
    """Run garbage collection less often than Python's default (every 700 objects).

    Imports, writes to MLflow and reports create many objects and hardly any garbage. With the
    default, collection takes 10% of the time of a large report, of a study without trials to run,
    and of a trial's overhead.
    """
    gc.set_threshold(200_000, 20, 50)


@contextmanager
def exit_when_reader_leaves() -> Iterator[None]:
    """Exit with 141 if the code in the context exits with 1 because its output pipe was closed.

    Shells report 141 (128 + 13) for a program that is killed by SIGPIPE, e.g. in `ship-report NAME
    | true`. Python ignores SIGPIPE, which would also kill the program when a server closes a
    connection. Instead, rich and click exit with 1 if they cannot write to a closed pipe.
    """
    try:
        descriptor = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # there is no standard output
        yield
        return
    try:
        yield
    except SystemExit as exit_request:
        if exit_request.code == 1 and _has_no_reader(descriptor):
            raise SystemExit(READER_GONE) from None
        raise
    finally:
        os.close(descriptor)


def _has_no_reader(descriptor: int) -> bool:
    """Return True if a file descriptor is a pipe whose other end was closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
