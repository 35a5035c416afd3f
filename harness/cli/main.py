"""ship-sweep: bring the world to what a study's YAML says, and print its table.

    ship-sweep --space prompt_len.yaml
    ship-sweep --space prompt_len.yaml --set dataset=caltech101 --data-root ~/data

Everything heavy (torch, ray, mlflow, pydantic) is imported inside the functions: --help is instant.
"""

import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.exit import COMPLETE, INCOMPLETE, INTERRUPTED, USER_MISTAKE, Closing, finish
from harness.cli.refusals import check_options, is_users
from reports.command import Command
from reports.contract import reader_may_leave, steady_output

_EPILOG = (
    "Running the same command again goes on where the last one stopped. "
    "Exit codes: 0 the study is complete; 1 --check has found a fault; 2 refused or broken off: a "
    "mistake in the command, the YAML or the data, another driver, or a plugin, store, cluster or "
    "storage that cannot be used; "
    "3 incomplete: trials failed or are missing, the store is away, Ray has died, or another "
    "driver has taken the study over; 130 interrupted; 141 nobody reads what is printed any more."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command, epilog=_EPILOG)
def sweep(
    space: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The study: a YAML file, or a packaged one by name."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of the YAML, e.g. shots=4, finetuner=tip_adapter_f, "
            "generator.epochs=5, space.shots=null; may be repeated.",
        ),
    ] = None,
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="FILE",
            help="A Python file with a generator, a fine-tuner or a dataset of your own, which the "
            "YAML may name; it is run. May be repeated.",
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where datasets lie.")
    ] = None,
    address: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Ray cluster: local, auto or HOST:PORT."),
    ] = "local",
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process",
            metavar="",
            help="Run one trial after the other in this process: for a debugger, and whole "
            "tracebacks. The numbers are the same.",
        ),
    ] = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Features, checkpoints, and writes that the store lacks."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Where checkpoints of running trials lie: a folder that all nodes see, or e.g. "
            "s3://BUCKET/PREFIX; by default in the cache folder.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            help="Print what is done, what would run, and how long it would take; run nothing.",
        ),
    ] = False,
    prefetch: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Run nothing, but fetch what the study needs, where there is a network: downloads "
            "(weights, and pictures as ship-data does), or features (these, and extract them).",
        ),
    ] = None,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Begin with the seeds of the YAML, and give more to those comparisons with the "
            "baseline that are undecided: neither different, nor equivalent within POINTS.",
        ),
    ] = None,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="With --detect: the most seeds of a setting; default: six pilots."
        ),
    ] = None,
    path: Annotated[
        bool,
        typer.Option(
            "--path",
            metavar="",
            help="Then run what is missing on the path from the baseline to the setting that "
            "selection prefers, one factor at a time.",
        ),
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            metavar="",
            help="Run settings anew whose constants, data or weights have changed, though finished "
            "rows leave the table for it.",
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Let Ray and MLflow speak.")
    ] = False,
    list_spaces: Annotated[
        bool, typer.Option("--list", metavar="", help="List the packaged studies.")
    ] = False,
    list_options: Annotated[
        bool,
        typer.Option(
            "--list-options", metavar="", help="List generators, fine-tuners, datasets and so on."
        ),
    ] = False,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run no study, but check whether a generator, a fine-tuner or a dataset, say of "
            "--plugin, does what a trial relies on.",
        ),
    ] = None,
    list_backbones: Annotated[
        bool,
        typer.Option("--list-backbones", metavar="", help="List the backbones that can be used."),
    ] = False,
    every: Annotated[
        bool,
        typer.Option("--all", metavar="", help="With --list-backbones: the refused ones, and why."),
    ] = False,
    deploy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print a cluster's recipe, e.g. slurm; readme has all."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version.")
    ] = False,
) -> None:
    """Run a study of SHIP: whatever the YAML wants and the store does not have yet."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("ship-sweep"))
    elif deploy is not None:
        from harness.deploy import print_recipe

        raise typer.Exit(COMPLETE if print_recipe(deploy) else USER_MISTAKE)
    elif list_spaces:
        from harness.cli.list_options import print_spaces

        print_spaces()
    elif list_options:
        from harness.cli.list_options import print_options

        raise typer.Exit(_with_plugins(plugins or [], print_options))
    elif check is not None:
        from harness.cli.check import run_check

        raise typer.Exit(_with_plugins(plugins or [], partial(run_check, check, data_root)))
    elif list_backbones:
        from harness.cli.list_backbones import print_backbones

        print_backbones(every=every)
    else:
        raise typer.Exit(
            _sweep(
                space,
                overrides or [],
                plugins or [],
                data_root,
                address,
                cache_dir,
                storage,
                in_process=in_process,
                dry_run=dry_run,
                prefetch=prefetch,
                detect=detect,
                max_seeds=max_seeds,
                path=path,
                accept=accept,
                verbose=verbose,
            )
        )


def main() -> None:
    """Entry point of the ship-sweep script."""
    # Importing makes many objects and hardly any garbage: looking for it at Python's own pace (700)
    # is a tenth of the time that a study takes which has nothing to do.
    gc.set_threshold(50_000, 20, 50)
    steady_output()
    try:
        with reader_may_leave():
            app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _sweep(
    space: str | None,
    overrides: list[str],
    plugins: list[str],
    data_root: Path | None,
    address: str,
    cache_dir: Path | None,
    storage: str | None,
    *,
    in_process: bool,
    dry_run: bool,
    prefetch: str | None,
    detect: float | None,
    max_seeds: int | None,
    path: bool,
    accept: bool,
    verbose: bool,
) -> int:
    """Load, run and report; the exit code."""
    from harness.errors import RayLost, UserError
    from harness.store import StoreAway, StudyLost

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    try:
        check_options(
            space,
            address,
            storage,
            detect,
            max_seeds,
            path=path,
            prefetch=prefetch,
            dry_run=dry_run,
            in_process=in_process,
        )
        from harness.config import load_plugins

        load_plugins(plugins)
        if prefetch is not None:
            from harness.cli.prefetch import run_prefetch

            return run_prefetch(
                str(space), overrides, data_root, cache_dir, prefetch, verbose=verbose
            )
        from harness.config import load_study
        from harness.planning import Consent
        from harness.resources import machine_memory
        from harness.study import path_stage, plan_study, run_path, run_study

        place = None if address == "local" else address
        memory = machine_memory() if place is None else None
        study = load_study(str(space), overrides, data_root, memory=memory)
        plan = partial(plan_study, data_root=data_root, cache_dir=cache_dir)
        if dry_run:
            from harness.cli.dry_run import print_dry_run

            if detect is not None:
                from harness.cli.detect import staged

                study = staged(study, detect, max_seeds, plan)
            study, line = path_stage(study, plan) if path else (study, "")
            return print_dry_run(study, data_root, place, cache_dir, line)
        closing = Closing()
        run = partial(
            run_study,
            data_root=data_root,
            address=place,
            in_process=in_process,
            verbose=verbose,
            cache_dir=cache_dir,
            storage=storage,
            consent=Consent(accept, _ask if _somebody_is_there() else None),
            before=closing.look,
            publish=closing.publication,
        )
        if detect is None:
            outcome = run_path(study, run, typer.echo) if path else run(study)
            return finish(outcome, closing)
        from harness.cli.detect import run_stages

        return finish(run_stages(study, detect, max_seeds, plan, run, typer.echo), closing)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on from here", err=True)
        return INTERRUPTED
    except (StudyLost, StoreAway, RayLost) as error:
        typer.echo(f"incomplete: {error}", err=True)
        return INCOMPLETE
    except UserError as error:
        typer.echo(str(error), err=True)
        return USER_MISTAKE
    except ValueError as error:
        if not is_users(error):
            raise
        typer.echo(str(error), err=True)
        return USER_MISTAKE


def _with_plugins(plugins: list[str], show: Callable[[], int | None]) -> int:
    """Show something that plugins may be in; the exit code."""
    from harness.config import load_plugins
    from harness.errors import UserError
    from ship.plugins import PluginError

    try:
        load_plugins(plugins)
        return show() or COMPLETE
    except (UserError, PluginError) as error:
        typer.echo(str(error), err=True)
        return USER_MISTAKE


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
