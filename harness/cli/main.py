"""ship-sweep: bring the world to what a study's YAML says, and print its table.

    ship-sweep --space prompt_len.yaml
    ship-sweep --space prompt_len.yaml --set dataset=caltech101 --data-root ~/data

Everything heavy (torch, ray, mlflow, pydantic) is imported inside the functions: --help is instant.
"""

import os
import sys
from typing import Any

import typer

from harness.cli import commands
from harness.cli.commands import COMPLETE, INCOMPLETE, INTERRUPTED, USER_MISTAKE
from harness.cli.options import Options, check_options, signature
from reports.command import Command
from reports.contract import collect_rarely, reader_may_leave, steady_output

_EPILOG = (
    "ship-sweep --copy prompt_len  writes the YAML of a packaged study here\n\n"
    "ship-sweep --space prompt_len.yaml --dry-run  says what it would run, and for how long\n\n"
    "ship-sweep --space prompt_len.yaml --set seeds=3  runs it with fewer seeds\n\n"
    "Running the same command again goes on where the last one stopped. "
    "Exit codes: 0 the study is complete; 1 --check has found a fault; 2 refused or broken off: a "
    "mistake in the command, the YAML or the data, another driver, or a plugin, store, cluster or "
    "storage that cannot be used; "
    "3 incomplete: trials failed or are missing, the store is away, Ray has died, or another "
    "driver has taken the study over; 130 interrupted; 141 nobody reads what is printed any more."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def sweep(**given: Any) -> None:
    """Run a study of SHIP: whatever the YAML wants and the store does not have yet."""
    options = Options(**given)
    if options.version:
        from importlib.metadata import version

        typer.echo(version("ship-sweep"))
    elif options.deploy is not None:
        from harness.deploy import print_recipe

        raise typer.Exit(COMPLETE if print_recipe(options.deploy) else USER_MISTAKE)
    elif options.list_spaces:
        from harness.cli.lists import print_spaces

        print_spaces()
    elif options.list_backbones:
        from harness.cli.lists import print_backbones

        print_backbones(every=options.every)
    else:
        raise typer.Exit(_exit_code(options))


vars(sweep)["__signature__"] = signature()
app.command(cls=Command, epilog=_EPILOG)(sweep)


def main() -> None:
    """Entry point of the ship-sweep script."""
    collect_rarely()
    steady_output()
    try:
        with reader_may_leave():
            app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _exit_code(options: Options) -> int:
    """Do what is asked for where plugins may be named; what ends it is one line on stderr."""
    from harness.errors import RayLost, UserError
    from harness.store import StoreAway, StudyLost

    try:
        return _run(options)
    except KeyboardInterrupt:
        said, code = "interrupted: the same command goes on from here", INTERRUPTED
    except (StudyLost, StoreAway, RayLost) as error:
        said, code = f"incomplete: {error}", INCOMPLETE
    except ValueError as error:
        if not isinstance(error, UserError) and not _is_users(error):
            raise
        said, code = str(error), USER_MISTAKE
    typer.echo(said, err=True)
    return code


def _is_users(error: ValueError) -> bool:
    """Whether the method's own error is a mistake of the user's: data, weights or plugins."""
    from ship.architectures import BackboneError
    from ship.datasets import DatasetError
    from ship.plugins import PluginError

    return isinstance(error, BackboneError | DatasetError | PluginError)


def _run(options: Options) -> int:
    """Show, check, plan or run; the exit code."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    if not options.list_options and options.check is None:
        check_options(options)
    if options.copy is not None:
        return commands.copy_study(options.copy)
    if options.rename is not None:
        return commands.rename(*options.rename, options.cache_dir)
    from harness.config import load_plugins

    load_plugins(options.plugins or [])
    if options.new:
        return _new(options)
    if options.list_options:
        from harness.cli.lists import print_options

        print_options()
        return COMPLETE
    if options.check is not None:
        return commands.run_check(options.check, options.data_root)
    if options.predict is not None and options.pictures is not None:
        return commands.run_predict(options.predict, options.pictures, options.setting or [])
    from harness.study import prefetch, run_study, typed_study

    address = None if options.address == "local" else options.address
    space, overrides = str(options.space), options.overrides or []
    if options.prefetch is not None:
        root, cache_dir, verbose = options.data_root, options.cache_dir, options.verbose
        prefetch(space, overrides, root, cache_dir, to=options.prefetch, verbose=verbose)
        return COMPLETE
    study = typed_study(space, overrides, (), options.data_root, here=address is None)
    both = ("data_root", "cache_dir", "detect", "max_seeds", "path")
    asked: dict[str, Any] = {name: getattr(options, name) for name in both}
    asked["reuse"] = not options.no_reuse
    if options.dry_run:
        return commands.print_dry_run(study, address, asked)
    report = commands.FinalReport()
    outcome = run_study(
        study,
        address=address,
        in_process=options.in_process,
        verbose=options.verbose,
        storage=options.storage,
        accept_changes=options.accept,
        ask=_ask if _somebody_is_there() else None,
        before=report.before,
        publish=report.publication,
        **asked,
    )
    return commands.finish(outcome, report)


def _new(options: Options) -> int:
    """Ask, and write a study's YAML; the exit code."""
    if not _somebody_is_there():
        typer.echo("--new asks questions, which needs a terminal", err=True)
        return USER_MISTAKE
    from harness.cli.new_study import write_new

    try:
        path = write_new(options.data_root)
    except (typer.Abort, KeyboardInterrupt):  # between questions, or within one
        typer.echo("\ninterrupted: nothing was written", err=True)
        return INTERRUPTED
    given = [("--plugin", file) for file in options.plugins or []]
    given += [("--data-root", str(root)) for root in (options.data_root,) if root]
    return commands.say_written(path, given)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: str) -> bool:
    """A person's answer; no answer is no."""
    try:
        return typer.confirm(question, default=False)
    except typer.Abort:
        return False


if __name__ == "__main__":
    main()
