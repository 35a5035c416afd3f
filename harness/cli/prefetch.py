"""`ship-sweep --prefetch`: what a study needs, fetched where there is a network."""

from pathlib import Path
from typing import Final

import typer

from harness.cli.exit import COMPLETE

CHOICES: Final = ("downloads", "features")


def run_prefetch(
    space: str,
    overrides: list[str],
    data_root: Path | None,
    cache_dir: Path | None,
    what: str,
    *,
    verbose: bool,
) -> int:
    """Fetch the weights and the pictures of a study, then extract its features; the exit code.

    Weights come first, as pictures may have to be put in place by hand: then the study is refused,
    with a line for each.

    Args:
        space, overrides, data_root, cache_dir: as of a run.
        what: "downloads" leaves the features out.

    Raises:
        UserError, ValueError: a mistake in the YAML, a dataset or a backbone that cannot be had.
    """
    from harness.config import load_study
    from harness.data.download import fetch_missing
    from harness.study import fetch_features, fetch_weights, named_datasets

    study = load_study(space, overrides, data_root, there=False)
    fetch_weights(study, typer.echo)
    if data_root is not None:
        fetch_missing(named_datasets(study), data_root, typer.echo)
    study = load_study(space, overrides, data_root)
    typer.echo(f"pictures of {', '.join(named_datasets(study))}: they are here")
    if what == "features":
        fetch_features(study, data_root, cache_dir, verbose=verbose)
    return COMPLETE
