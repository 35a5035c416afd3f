"""`ship-sweep --check NAME`: whether a generator, a fine-tuner or a dataset keeps its contract."""

from collections.abc import Iterator
from pathlib import Path

import typer

from harness.cli.exit import BROKEN, COMPLETE
from harness.errors import UserError
from harness.wording import nearest, printable


def run_check(name: str, data_root: Path | None) -> int:
    """Check whatever has that name, on the packaged backbone, and say what holds and what fails.

    Args:
        name: as a YAML says it; of a built-in or a plugin.
        data_root: where datasets lie.

    Returns:
        The exit code: 0 where everything holds.

    Raises:
        UserError: nothing has that name.
    """
    fails = 0
    for kind, line in _lines(name, data_root):
        typer.echo(printable(f"{kind} {name}: {line}"))
        fails += line.startswith("FAILS")
    typer.echo(f"{fails} of its promises fail" if fails else "everything holds")
    return BROKEN if fails else COMPLETE


def _lines(name: str, data_root: Path | None) -> Iterator[tuple[str, str]]:
    from ship.configs import FINETUNERS, GENERATORS
    from ship.datasets import DATASETS
    from ship.testing import check_dataset, check_finetuner, check_generator

    folder = name.startswith("image_folder:")
    if not folder and name not in GENERATORS and name not in FINETUNERS and name not in DATASETS:
        known = [*GENERATORS.names(), *FINETUNERS.names(), *DATASETS.names()]
        near = nearest(name, known)
        hint = f" (did you mean {near}?)" if near else ""
        raise UserError(
            f"--check must name a generator, a fine-tuner or a dataset, got {name!r}{hint}; "
            f"ship-sweep --list-options lists them, --plugin FILE adds yours"
        )
    generator = GENERATORS.get(name)
    if generator is not None and generator.method is not None:
        yield from (("generator", str(found)) for found in check_generator(name))
    if name in FINETUNERS:
        yield from (("fine-tuner", str(found)) for found in check_finetuner(name))
    if folder or name in DATASETS:
        yield from (("dataset", str(found)) for found in check_dataset(name, data_root))
