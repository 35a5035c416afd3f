"""The classes of ship-sweep's commands, which print user errors and explain misplaced arguments."""

from typing import Any

from harness.command import Command, CommandGroup, refuse


class SweepCommand(Command):
    """A subcommand of ship-sweep. User errors are printed without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: The command refuses its arguments, or its exit code is not 0.
        """
        from harness.cli.exits import print_user_errors

        with print_user_errors():
            return super().invoke(ctx)


class SweepGroup(CommandGroup):
    """The main command `ship-sweep --space FILE`, and its subcommands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the subcommand that the first argument names.

        Raises:
            typer.Exit: There is no such subcommand, or the command line has options before it.
        """
        resolution = super().resolve_command(ctx, args)
        name, command, _ = resolution
        options = {option for param in command.params for option in param.opts}
        lines = [
            f"{option} is an option of {name}. Use ship-sweep {name} ... {option}"
            if option in options
            else f"{option} cannot be combined with the command {name}"
            for option in _list_used_options(ctx)
        ]
        if lines:
            refuse(lines)
        return resolution

    def unknown_command(self, ctx: Any, name: str) -> str:
        """Return the message for an argument that is no subcommand, with a suggestion."""
        from harness.study_files import list_packaged_names

        # in `--set shots 4`, shots is the value of --set, and 4 is read as a subcommand
        key = next((text for text in ctx.params["overrides"] or () if "=" not in text), None)
        if key is not None:
            return f"--set: no equals sign, got '{key} {name}'. Use --set {key}={name}"
        is_study = name.endswith((".yaml", ".yml")) or name in list_packaged_names()
        if is_study and ctx.params["space"] is None:
            return f"unknown command {name}. To run a study, use --space {name}"
        return super().unknown_command(ctx, name)


def _list_used_options(ctx: Any) -> list[str]:
    """Return the options that were given before the subcommand."""
    sources = {param.opts[0]: ctx.get_parameter_source(param.name) for param in ctx.command.params}
    return [option for option, source in sources.items() if source.name == "COMMANDLINE"]
