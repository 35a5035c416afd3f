"""ship-data: list datasets, download them, and check them.

    ship-data list --data-root ~/data
    ship-data get caltech101 --data-root ~/data
    ship-data check caltech101 --data-root ~/data

Heavy modules (numpy, Pillow, torchvision) are imported inside the functions, so --help is fast.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.command import USER_MISTAKE, Command, Group, start

_EPILOG = (
    "Exit codes: 0 all is well; 2 a mistake in the command or the data; 130 interrupted; "
    "141 nobody reads what is printed any more."
)

app = typer.Typer(
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=_EPILOG,
    help="Datasets of ship-sweep: list, get and check them.",
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of ship-data list.")]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="Where datasets lie, in CoOp's layout."),
]


@app.command("list", cls=Command)
def list_datasets(*, data_root: DataRoot = None) -> None:
    """List every dataset, whether it is on disk, and how to get it."""
    if data_root is not None and not data_root.is_dir():
        _refuse([f"--data-root must be a folder, got {data_root}"])
    from harness.data.disk import print_list

    print_list(data_root)


@app.command(cls=Command)
def get(name: Name, *, data_root: DataRoot = None) -> None:
    """Download a dataset's images with torchvision, if it can, into CoOp's layout."""
    if data_root is None:
        _refuse(["--data-root must be given: the folder that shall hold the datasets"])
    from harness.data.download import get_dataset
    from harness.errors import UserError

    try:
        typer.echo("\n".join(get_dataset(name, data_root)))
    except UserError as error:
        _refuse([str(error)])


@app.command(cls=Command)
def check(
    name: Name,
    *,
    data_root: DataRoot = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode the pictures.")] = False,
    class_names: Annotated[
        str | None,
        typer.Option(
            "--class-names", metavar="FILE", help="image_folder:NAME: File of its classes' names."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="FILE", help="image_folder:NAME: File of its pictures by split."
        ),
    ] = None,
    split_seed: Annotated[
        int,
        typer.Option(
            "--split-seed", metavar="N", min=0, help="image_folder:NAME: Another draw of its split."
        ),
    ] = 0,
) -> None:
    """Compare a dataset with the published one, and report all faults at once.

    Another split than the published one is a warning, not a fault: the exit code stays 0.
    """
    from harness.data.disk import check_everything
    from ship.datasets import PREFIX, DatasetError, ImageFolder

    options = {"class-names": class_names, "split": split, "split-seed": split_seed}
    unread, reason = list(options), f"is for {PREFIX}NAME alone"
    if name.startswith(PREFIX):
        unread = ["class-names", "split-seed"] if split else []
        reason = "must be left out beside --split"
    lines = [f"--{key} {reason}" for key in unread if options[key]]
    if lines:
        _refuse(lines)
    folder = ImageFolder(class_names or None, split or None, split_seed)
    try:
        scan, summary = check_everything(name, data_root, quick, folder)
    except DatasetError as error:
        _refuse(error.faults)
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


def _refuse(lines: Iterable[str]) -> NoReturn:
    """Print lines to standard error, and exit with 2."""
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(USER_MISTAKE)


if __name__ == "__main__":
    main()
