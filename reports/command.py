"""What the three commands share: what their --help shows, and how they start and end."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from reports.contract import collect_rarely, reader_may_leave, steady_output

BROKEN, USER_MISTAKE, INCOMPLETE, INTERRUPTED = 1, 2, 3, 130  # exit codes


class Command(TyperCommand):
    """A command whose --help shows no kind of value of a flag: some versions of typer do."""

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
