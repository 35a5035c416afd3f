"""`--prefetch`: the weights, pictures and features of a study, ahead of it.

Where there is a network, or nothing else to do. It writes nothing but caches: the hub's, and the
study's own.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console

from harness.config import StudyConfig, load_study
from harness.device import usable_gpus, why_no_gpu
from harness.planning import Fingerprints, make_plan
from harness.progress import SteadyConsole, line_printer
from harness.store import Ledger
from harness.study.features import (
    encoder_here,
    fingerprints_of,
    levels_of,
    needed,
    prepare_features,
)
from harness.wording import count


def prefetch(
    space: str,
    overrides: Sequence[str],
    data_root: Path | None,
    cache_dir: Path | None,
    *,
    to: str,
    verbose: bool,
) -> None:
    """Fetch the weights and the pictures of a study, then extract its features.

    Weights come first, as pictures may have to be put in place by hand: then the study is refused,
    with a line for each.

    Args:
        space, overrides, data_root, cache_dir, verbose: see run_study.
        to: the last step: "downloads" or "features".

    Raises:
        UserError, ValueError: a mistake in the YAML, a dataset or a backbone that cannot be had.
    """
    from harness.data.download import fetch_missing

    study, console = load_study(space, overrides, data_root, there=False), SteadyConsole()
    say, prints = line_printer(console), fingerprints_of(study, None, data_root, cache_dir)
    for name in levels_of(study, "backbone"):
        prints.method.load_backbone(name, "cpu")  # what is not in the hub's cache is downloaded
        say(f"weights of {name}: they are here")
    if data_root is not None:
        fetch_missing(named_datasets(study), data_root, say)
    study = load_study(space, overrides, data_root)
    say(f"pictures of {', '.join(named_datasets(study))}: they are here")
    if to == "features":
        fetch_features(study, prints, console, verbose=verbose)


def named_datasets(study: StudyConfig) -> list[str]:
    """Every dataset that a study may read, each once: those to be trained on, and targets."""
    targets = chain(*levels_of(study, "targets"))
    return list(dict.fromkeys([*levels_of(study, "dataset"), *targets]))


def fetch_features(
    study: StudyConfig, prints: Fingerprints, console: Console, *, verbose: bool
) -> None:
    """Extract every feature set that a study may read; what the cache has is not extracted again.

    On this machine's GPUs if the study asks for GPUs and torch can use them, else on its cores: a
    login node seldom has one.

    Args:
        study: the study, whatever of it has been run.
        prints: of its data and weights, with the method and the cache folder.
        console: where progress goes.
        verbose: let Ray talk.

    Raises:
        ValueError: a backbone or a data set cannot be read.
        ClusterError: Ray cannot do it.
    """
    say, resources = line_printer(console), study.resources
    why = why_no_gpu() if resources.gpus or (resources.auto and usable_gpus()) else None
    if why is not None:
        say(f"torch cannot use a GPU here ({why.rstrip('.')}): features are extracted on the CPU")
        resources = resources.model_copy(update={"auto": False, "gpus": 0.0})
        study = study.model_copy(update={"resources": resources})
    needs = needed(study, make_plan(study, Ledger(), prints))
    with encoder_here(study, prints.method, verbose=verbose) as encode:
        prepare_features(needs, prints, console, encode)
    are = "is" if len(needs) == 1 else "are"
    say(f"{count(len(needs), 'feature set')} {are} in {prints.cache_dir}")
