"""ship-data: list datasets, download them, and check them.

    ship-data list --data-root ~/data
    ship-data get caltech101 --data-root ~/data
    ship-data check caltech101 --data-root ~/data

Heavy modules (numpy, Pillow, torchvision) are imported inside the functions to keep --help fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from harness.command import USER_MISTAKE, Command, CommandGroup, refuse, start

_EPILOG = (
    "Exit codes:\n\n"
    "0: the command succeeded\n\n"
    "2: the command has a mistake, the dataset has faults, or a download failed\n\n"
    "130: interrupted\n\n"
    "141: the pipe that reads the output was closed"
)

app = typer.Typer(
    name="ship-data",
    cls=CommandGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=_EPILOG,
    help="List, download and check the datasets of ship-sweep. Some have to be downloaded by hand; "
    "ship-data list says how. The folder of all datasets is given as --data-root to each command, "
    "e.g. ship-data get dtd --data-root ~/data.",
)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a dataset (see ship-data list).")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Folder that contains the datasets' folders. Packaged datasets need none.",
    ),
]


@app.command("list", cls=Command)
def list_datasets(*, data_root: DataRoot = None) -> None:
    """List all datasets with their state on disk, and how to get the missing ones.

    Without --data-root, the state of most datasets is shown as ? (unknown).
    """
    if data_root is not None and not data_root.is_dir():
        refuse([f"--data-root must be a folder, got {data_root}"])
    from harness.data.disk import print_list

    print_list(data_root)


@app.command(cls=Command)
def get(
    name: Name,
    *,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            metavar="DIR",
            help="Required. Folder for the datasets' folders. It is created if it is missing.",
        ),
    ] = None,
) -> None:
    """Download a dataset's images with torchvision, into the folders that ship-sweep reads.

    The folder layout is that of the CoOp repository (github.com/KaiyangZhou/CoOp).

    Some datasets have to be downloaded by hand: see ship-data list.
    """
    if data_root is None:
        refuse(["--data-root is required: the folder of the datasets"])
    from harness.data.download import download_dataset
    from harness.errors import UserError

    try:
        typer.echo("\n".join(download_dataset(name, data_root)))
    except UserError as error:
        refuse([str(error)])


@app.command(cls=Command)
def check(
    name: Name,
    *,
    data_root: DataRoot = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Do not decode the images. Then damaged images and copies are not detected.",
        ),
    ] = False,
    class_names: Annotated[
        str | None,
        typer.Option(
            "--class-names",
            metavar="FILE",
            help="For image_folder:NAME: file with the class names. Defaults to class_names.csv or "
            "class_names.txt in the folder, or else to the names of the class folders.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="FILE",
            help="For image_folder:NAME: JSON file with the images of train, val and test, in "
            "CoOp's format. Defaults to the folder's train/, val/ and test/, or else to a random "
            "split.",
        ),
    ] = None,
    split_seed: Annotated[
        int,
        typer.Option(
            "--split-seed",
            metavar="N",
            min=0,
            help="For image_folder:NAME: seed of the random split.",
        ),
    ] = 0,
) -> None:
    """Check a dataset's files, decode its images, and report all faults and warnings at once.

    Faults are, for example, missing files and damaged images. The exit code is 2 if there are any.
    Differences from the published dataset are warnings, which do not change the exit code.
    """
    from harness.data.disk import check_everything
    from ship.datasets import PREFIX, DatasetError, ImageFolder

    options = {"class-names": class_names, "split": split, "split-seed": split_seed}
    keys, reason = list(options), f"can only be used with {PREFIX}NAME"
    if name.startswith(PREFIX):
        keys = ["class-names", "split-seed"] if split else []
        reason = "cannot be combined with --split"
    lines = [f"--{key} {reason}" for key in keys if options[key]]
    if lines:
        refuse(lines)
    folder = ImageFolder(class_names or None, split or None, split_seed)
    try:
        scan, summary = check_everything(name, data_root, quick, folder)
    except DatasetError as error:
        refuse(error.faults)
    for warning in scan.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for fault in scan.faults:
        typer.echo(fault, err=True)
    typer.echo("\n".join([*scan.notes, summary]))
    if scan.faults:
        raise typer.Exit(USER_MISTAKE)


def main() -> None:
    """Run the ship-data script."""
    start(app)


if __name__ == "__main__":
    main()
