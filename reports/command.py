"""Commands whose --help shows no kind of value of a flag: some versions of typer write <bool>."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options, --help among them."""
        return _plain(super().get_params(ctx))


class Group(TyperGroup):
    """A command with subcommands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, --help among them."""
        return _plain(super().get_params(ctx))


def _plain(found: list[Any]) -> list[Any]:
    for one in found:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return found
