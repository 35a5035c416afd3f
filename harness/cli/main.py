"""ship-sweep: bring the world to what a study's YAML says, and print its table.

    ship-sweep --space prompt_len.yaml
    ship-sweep --space prompt_len.yaml --set dataset=caltech101 --data-root ~/data

Everything heavy (torch, ray, mlflow, pydantic) is imported inside the functions: --help is instant.
"""

import sys
from typing import Any

import typer

from harness.cli.options import COMPLETE, INTERRUPTED, USER_MISTAKE, Options, signature
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
        return
    if options.deploy is not None:
        from harness.deploy import print_recipe

        raise typer.Exit(COMPLETE if print_recipe(options.deploy) else USER_MISTAKE)
    from harness.cli.run import exit_code

    raise typer.Exit(exit_code(options))


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


if __name__ == "__main__":
    main()
