"""ship-sweep: run a study as its YAML defines it, and print its table.

    ship-sweep --space prompt_len.yaml
    ship-sweep --space prompt_len.yaml --set dataset=caltech101 --data-root ~/data

The options are declared only here; harness.cli.options refuses invalid combinations. Heavy modules
(torch, ray, mlflow, pydantic) are imported inside the functions, so that --help is fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Options
from harness.command import Command, start

_EPILOG = (
    "ship-sweep --copy prompt_len  writes the YAML of a packaged study here\n\n"
    "ship-sweep --space prompt_len.yaml --dry-run  says what it would run\n\n"
    "ship-sweep --space prompt_len.yaml --set seeds=3  runs it with fewer seeds\n\n"
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
    pictures: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", hidden=True, help="With --predict: the pictures, at any depth."
        ),
    ] = None,
    *,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", metavar="FILE", help="The study: a YAML file, or a packaged one by name."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of the YAML, e.g. shots=4, finetuner=coop, generator.epochs=5, "
            "space.shots=null; may be repeated.",
        ),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="FILE",
            help="A Python file, or the name of a module, with a custom generator, fine-tuner or "
            "dataset that the YAML may name; it is run. May be repeated.",
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="DIR", help="Where datasets lie.")
    ] = None,
    address: Annotated[
        str,
        typer.Option("--address", metavar="ADDRESS", help="Ray cluster: local, auto or HOST:PORT."),
    ] = "local",
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process",
            help="Run one trial after the other in this process: for a debugger, and whole "
            "tracebacks. The numbers are the same.",
        ),
    ] = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            "--cache-dir",
            metavar="DIR",
            help="Features and checkpoints.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URI",
            help="Where checkpoints of running trials lie: a folder that all nodes see, or e.g. "
            "s3://BUCKET/PREFIX; by default in the cache folder.",
        ),
    ] = None,
    store_timeout: Annotated[
        float | None,
        typer.Option(
            "--store-timeout",
            metavar="SECONDS",
            help="How long a running study waits for an MLflow store that does not answer; by "
            "default 1800.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what is done, what would run, and, once a trial has finished, how long it "
            "would take; run nothing.",
        ),
    ] = False,
    prefetch: Annotated[
        str | None,
        typer.Option(
            "--prefetch",
            metavar="WHAT",
            help="Run nothing, but fetch what the study needs, where there is a network: downloads "
            "(weights, and pictures as ship-data does), or features (these, and extract them).",
        ),
    ] = None,
    no_reuse: Annotated[
        bool,
        typer.Option(
            "--no-reuse",
            help="Run what other studies of the store have finished of the same settings, too.",
        ),
    ] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Rerun settings whose constants, data or weights have changed, and drop their "
            "finished rows from the table. Otherwise such a study is refused.",
        ),
    ] = False,
    retry_non_finite: Annotated[
        bool,
        typer.Option(
            "--retry-non-finite",
            help="Run seeds again that failed because a loss, logit or synthetic feature was NaN "
            "or infinite. On a GPU that need not recur.",
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Let Ray and MLflow speak.")] = False,
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy",
            metavar="NAME",
            help="Write a packaged study's YAML into this folder, with its comments. The study "
            "`template` explains every key.",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the packaged studies.")] = False,
    list_options: Annotated[
        bool,
        typer.Option("--list-options", help="List generators, fine-tuners, datasets and so on."),
    ] = False,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="NAME",
            help="Run no study, but check whether a generator, a fine-tuner or a dataset, say of "
            "--plugin, does what a trial relies on.",
        ),
    ] = None,
    list_backbones: Annotated[
        bool, typer.Option("--list-backbones", help="List the backbones that can be used.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="With --list-backbones: the refused ones, and why.")
    ] = False,
    predict: Annotated[
        str | None,
        typer.Option(
            "--predict",
            metavar="STUDY",
            help="Run no study, but name the pictures of FOLDER by what one of its settings has "
            "trained (save_models: true); the file is STUDY-predictions.csv here.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            metavar="KEY=VALUE",
            help="With --predict: a factor's level of the setting that is meant; may be repeated; "
            "by default the setting that selection prefers. Where datasets differ, the dataset "
            "must be named.",
        ),
    ] = None,
    deploy: Annotated[
        str | None,
        typer.Option(
            "--deploy", metavar="NAME", help="Print a cluster's recipe, e.g. slurm; readme has all."
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Run the configurations and seeds of a study that the store does not have yet."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("ship-sweep"))
        return
    from harness.cli.run import carry_out

    options = Options(
        pictures=pictures,
        space=space,
        set_=set_,
        plugin=plugin,
        data_root=data_root,
        address=None if address == "local" else address,
        in_process=in_process,
        cache_dir=cache_dir,
        storage=storage,
        store_timeout=store_timeout,
        dry_run=dry_run,
        prefetch=prefetch,
        no_reuse=no_reuse,
        accept_changes=accept_changes,
        retry_non_finite=retry_non_finite,
        verbose=verbose,
        copy=copy,
        list_=list_,
        list_options=list_options,
        check=check,
        list_backbones=list_backbones,
        all_=all_,
        predict=predict,
        setting=setting,
        deploy=deploy,
    )
    carry_out(options)


def main() -> None:
    """Run the ship-sweep script."""
    start(app)


if __name__ == "__main__":
    main()
