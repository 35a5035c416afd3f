"""ship-sweep: run a study as its YAML defines it, and print its report.

    ship-sweep --space prompt_len.yaml
    ship-sweep --space prompt_len.yaml --set dataset=caltech101 --data-root ~/data

The subcommands are in harness.cli.commands. Heavy modules (torch, ray, mlflow, pydantic) are
imported inside the functions, so that --help is fast.
"""

from typing import Annotated, Any

import typer

from harness.cli.commands import add_commands
from harness.cli.group import SweepGroup
from harness.cli.options import CacheDir, DataRoot, Overrides, Plugins, Space, Verbose
from harness.command import start

_EPILOG = (
    "Examples:\n\n"
    "ship-sweep copy prompt_len  # write the YAML of a packaged study\n\n"
    "ship-sweep --space prompt_len.yaml --dry-run  # print what it would run\n\n"
    "ship-sweep --space prompt_len.yaml --set seeds=3  # run it with fewer seeds\n\n"
    "Run the same command again to resume an incomplete study. Its results are in the MLflow store "
    "$MLFLOW_TRACKING_URI, or else in mlflow.db in the working directory.\n\n"
    "ship-report prints the reports of studies in the store. ship-data lists, downloads and checks "
    "datasets.\n\n"
    "Exit codes:\n\n"
    "0: the study is complete, or the command succeeded\n\n"
    "1: a check of ship-sweep check failed, or an unexpected error occurred\n\n"
    "2: refused or aborted: the command, the YAML or the data has a mistake; another driver runs "
    "the study; the store, the cluster, the checkpoint storage or a plugin cannot be used; or the "
    "study is complete but the files of its report cannot be written\n\n"
    "3: incomplete: trials failed or are missing, a store that responded at the start did not "
    "respond for --store-timeout seconds, Ray died, or another driver took over the study\n\n"
    "130: interrupted\n\n"
    "141: the pipe that reads the output was closed"
)

app = typer.Typer(
    name="ship-sweep",
    cls=SweepGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    epilog=_EPILOG,
)
add_commands(app)


@app.callback(options_metavar="--space FILE [OPTIONS] |")
def sweep(
    context: typer.Context,
    *,
    space: Space = None,
    overrides: Overrides = None,
    plugin: Plugins = None,
    data_root: DataRoot = None,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="Where to run the trials. local: on this machine, where Ray is started. auto: on "
            "the running Ray cluster at $RAY_ADDRESS, or else on the one that this machine belongs "
            "to. HOST:PORT: on the running Ray cluster at this address.",
        ),
    ] = "local",
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process",
            help="Run the trials one after another in this process instead of in Ray's workers, so "
            "that a debugger can stop in them. The results are the same.",
        ),
    ] = False,
    cache_dir: CacheDir = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URI",
            help="Where to keep checkpoints of running trials: a folder that all nodes can access, "
            "or a URI such as s3://BUCKET/PREFIX. Defaults to $SHIP_SWEEP_STORAGE, or else to the "
            "cache folder.",
        ),
    ] = None,
    store_timeout: Annotated[
        float | None,
        typer.Option(
            "--store-timeout",
            metavar="SECONDS",
            help="How long a running study waits for an MLflow store that has stopped responding, "
            "before it exits with code 3. A store that does not respond at the start is reported "
            "within seconds. Defaults to 1800 (30 minutes).",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Run nothing. Print the state of each configuration (done, to run, pruned or "
            "failed), the seeds to run, the smallest difference that the seeds can detect, and the "
            "remaining time. Difference and time are estimated from finished trials. Until the "
            "first trial has finished, the time and memory that the trials need on a GPU are "
            "printed as well (not for the packaged backbone).",
        ),
    ] = False,
    no_reuse: Annotated[
        bool,
        typer.Option("--no-reuse", help="Do not reuse results from other studies; recompute them."),
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Rerun configurations whose constants, data or weights changed, and drop their "
            "old results from the report. Without this option, a study with such changes is "
            "refused.",
        ),
    ] = False,
    retry_non_finite: Annotated[
        bool,
        typer.Option(
            "--retry-non-finite",
            help="Rerun seeds that failed because a loss, logit or synthetic feature was NaN or "
            "infinite. On a GPU the failure may not recur.",
        ),
    ] = False,
    verbose: Verbose = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Run a study: train each configuration under the seeds without a result, and print a report.

    The report's files are written to the folder NAME-report in the working directory, where NAME is
    the study's name.
    """
    if context.invoked_subcommand is not None:
        return
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("ship-sweep"))
        return
    from harness.cli import run
    from harness.cli.exits import print_user_errors
    from harness.study import load_plugins_and_study

    cluster = None if address == "local" else address
    arguments: dict[str, Any] = {
        "data_root": data_root,
        "cache_dir": cache_dir,
        "reuse": not no_reuse,
        "retry_non_finite": retry_non_finite,
    }
    with print_user_errors():
        path = run.require_space(space, cluster, in_process=in_process)
        study = load_plugins_and_study(path, overrides or [], plugin or [], data_root)
        if dry_run:
            run.print_dry_run(study, cluster, arguments)
            return
        run.run_and_report(
            study,
            address=cluster,
            in_process=in_process,
            verbose=verbose,
            storage=storage,
            store_timeout=store_timeout,
            accept_changes=accept_changes,
            **arguments,
        )


def main() -> None:
    """Run the ship-sweep script."""
    start(app)


if __name__ == "__main__":
    main()
