"""The subcommands of ship-sweep.

Heavy modules are imported inside the functions, so that --help is fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.group import SweepCommand
from harness.cli.options import CacheDir, DataRoot, Overrides, Plugins, Space, Verbose

PREFETCH_STEPS = ("downloads", "features")


def add_commands(app: typer.Typer) -> None:
    """Add the subcommands to the app of ship-sweep. Its --help lists them in this order."""
    app.command("list", cls=SweepCommand)(list_studies)
    app.command("copy", cls=SweepCommand)(copy_study)
    app.command("options", cls=SweepCommand)(list_options)
    app.command("backbones", cls=SweepCommand)(list_backbones)
    app.command("check", cls=SweepCommand)(check_by_name)
    prefetch = app.command("prefetch", cls=SweepCommand, options_metavar="--space FILE [OPTIONS]")
    prefetch(prefetch_study)
    app.command("predict", cls=SweepCommand)(predict_images)
    app.command("deploy", cls=SweepCommand)(print_cluster_recipe)


def list_studies() -> None:
    """List the packaged studies.

    To use one, give its name to --space, or copy its YAML with ship-sweep copy. The study
    `template` is a YAML in which every key is explained.
    """
    from harness.cli import lists

    lists.print_studies()


def copy_study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a packaged study (see ship-sweep list).")
    ],
) -> None:
    """Copy the YAML of a packaged study into the working directory.

    The study `template` is a YAML in which every key is explained.
    """
    from harness.study_files import copy_packaged

    path = copy_packaged(name)
    typer.echo(f"wrote {path}. To see what it would run:")
    typer.echo(f"  ship-sweep --space {path} --dry-run")


def list_options(*, plugin: Plugins = None) -> None:
    """List the keys of a study's YAML, and the methods, datasets and protocols to choose from.

    For a YAML to edit, in which every key is explained, run ship-sweep copy template.
    """
    from harness.cli import lists
    from harness.config import load_plugins

    load_plugins(plugin or [])
    lists.print_options()


def list_backbones(
    *,
    all_: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also list backbones without published weights, and unsupported ones with the "
            "reason.",
        ),
    ] = False,
) -> None:
    """List the supported backbones and their pretrained weights."""
    from harness.cli import lists

    lists.print_backbones(show_all=all_)


def check_by_name(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of a generator, fine-tuner, dataset or metric, as in a YAML, e.g. vae or "
            "coop (all names: ship-sweep options).",
        ),
    ],
    *,
    plugin: Plugins = None,
    data_root: DataRoot = None,
) -> None:
    """Check that a generator, fine-tuner, dataset or metric works in a study.

    Use it to test a plugin: ship-sweep check my_method --plugin my_method.py. A method is trained
    briefly on made-up features, to check for example that its results are finite and reproducible,
    and that it can be saved and resumed. Each check prints a line. The exit code is 1 if one fails.

    To find damaged images and copies in a dataset, use ship-data check.
    """
    from harness.cli import lists
    from harness.config import load_plugins

    load_plugins(plugin or [])
    lists.run_check(name, data_root)


def prefetch_study(
    last_step: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="downloads: download the weights of the study's backbones, and the images of its "
            "datasets if they are missing and ship-data get can download them; print which files "
            "have to be downloaded by hand. features: do the same, and then extract the features "
            "into the cache.",
        ),
    ],
    *,
    space: Space = None,
    overrides: Overrides = None,
    plugin: Plugins = None,
    data_root: DataRoot = None,
    cache_dir: CacheDir = None,
    verbose: Verbose = False,
) -> None:
    """Prepare a study: download its weights and images, and optionally extract its features.

    If the nodes of a cluster have no network access, run this first on a machine that has it.
    """
    import harness.study
    from harness.cli.exits import require_choice
    from harness.cli.run import require_space
    from harness.config import load_plugins

    require_choice("WHAT", last_step, PREFETCH_STEPS)
    path = require_space(space)
    load_plugins(plugin or [])
    harness.study.prefetch_features(
        path, overrides or [], data_root, cache_dir, to=last_step, verbose=verbose
    )


def predict_images(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Name of a study in the MLflow store.")
    ],
    images: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="Image, or folder that is searched for images at any depth."
        ),
    ],
    *,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            metavar="KEY=VALUE",
            help="Level of a factor, to select the configuration, e.g. n_ctx=16 (short for "
            "generator.n_ctx=16). Repeatable. Defaults to the configuration with the best "
            "selection score. A factor that changes the classes, such as dataset, has no default "
            "and must be given.",
        ),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Classify images with the trained models of a study that ran with save_models: true.

    The models are read from the MLflow store $MLFLOW_TRACKING_URI, or else from mlflow.db in the
    working directory.

    Probabilities are averaged over the models of all seeds. The file STUDY-predictions.csv in the
    working directory is written or replaced. It has a row per image, with the class, its
    probability, the second class, and the number of seeds whose models predict the class. The exit
    code is 2 if an image cannot be decoded; the file then contains the predictions for the other
    images.
    """
    from harness.cli.run import run_predict
    from harness.config import load_plugins

    load_plugins(plugin or [])
    run_predict(study, images, config or [])


def print_cluster_recipe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="slurm: a batch script. kuberay: a Kubernetes manifest. docker: a Dockerfile. "
            "readme: how to choose between them, and what the nodes have to share.",
        ),
    ],
) -> None:
    """Print a template for running studies on a cluster. Lines to edit are marked EDIT."""
    from harness.cli.exits import require_choice
    from harness.deploy import FILES, print_recipe

    require_choice("NAME", name, tuple(FILES))
    print_recipe(name)
