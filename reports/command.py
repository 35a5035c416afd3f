"""Commands whose --help shows no kind of value: some versions of typer write <bool> beside it."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, which takes no value."""
        return _plain(super().get_help_option(ctx))


class Group(TyperGroup):
    """A command with subcommands."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, which takes no value."""
        return _plain(super().get_help_option(ctx))


def _plain(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option
