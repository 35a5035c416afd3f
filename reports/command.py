"""What the three commands share: how they declare their options, and how they start and end."""

import re
import sys
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, cleandoc, signature
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from reports.contract import collect_rarely, reader_may_leave, steady_output

BROKEN, USER_MISTAKE, INCOMPLETE, INTERRUPTED = 1, 2, 3, 130  # exit codes
Function = TypeVar("Function", bound=Callable[..., Any])
_SECTION = re.compile(r"^(?:Args|Attributes):\n", re.MULTILINE)
# name (METAVAR): help, which may go on in lines that are further in
_ENTRY = re.compile(r"^    (\w+)(?: \((.+?)\))?: (.+(?:\n {8}.+)*)", re.MULTILINE)


def flag_of(name: str) -> str:
    """How a parameter is given on a command line: all_ as --all, data_root as --data-root."""
    return f"--{name.rstrip('_').replace('_', '-')}"


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    source: Callable[..., Any] | None = None,
    epilog: str | None = None,
    cls: type[TyperCommand] | None = None,
    **more: Mapping[str, Any],
) -> Callable[[Function], Function]:
    """A decorator that makes a command of a function; its docstring is what --help shows.

    Parameters that must be named are options, others arguments. Each has an entry in the section
    Args, `name (METAVAR): help`.

    Args:
        app: that has the command.
        name: where it is not the function's.
        source: what has the parameters and their entries in place of the function.
        epilog: below the options.
        cls: Class of the command. Defaults to Command.
        more: of a parameter, what typer has to know beside its type, default and help.
    """

    def declare(function: Function) -> Function:
        declared = source or function
        told = {name: rest for name, *rest in _ENTRY.findall(cleandoc(declared.__doc__ or ""))}
        shown = []
        for own in signature(declared).parameters.values():
            metavar, text = told.get(own.name, ("", ""))  # python -OO has no docstrings
            usual = ... if own.default is Parameter.empty else own.default
            keys: dict[str, Any] = {"metavar": metavar or None, "help": " ".join(text.split())}
            keys |= more.get(own.name, {})
            if own.kind is Parameter.KEYWORD_ONLY:
                option = typer.Option(usual, flag_of(own.name), **keys)
            else:
                option = typer.Argument(usual, **keys)
            shown.append(own.replace(default=option, kind=Parameter.KEYWORD_ONLY))
        vars(function)["__signature__"] = Signature(shown)
        summary = _SECTION.split(cleandoc(function.__doc__ or ""))[0]
        return app.command(name, cls=cls or Command, help=summary, epilog=epilog)(function)

    return declare


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
