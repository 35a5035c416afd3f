"""Ahead of a study, where there is a network or nothing else to do: weights, and features.

Nothing is written but caches: the hub's, and the study's own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import StudyConfig
from harness.method import Method
from harness.planning import Fingerprints, make_plan
from harness.progress import SteadyConsole, line_printer
from harness.resources import usable_gpus, why_no_gpu
from harness.store import Ledger
from harness.study.context import default_cache_dir
from harness.study.extraction import encoder_here
from harness.study.features import levels_of, needed, prepare_features


def named_datasets(study: StudyConfig) -> list[str]:
    """Every dataset that a study may read, each once: those to be trained on, and targets."""
    names = list(_levels(study, "dataset"))
    for targets in _levels(study, "targets"):
        names += targets
    return list(dict.fromkeys(names))


def fetch_weights(
    study: StudyConfig, say: Callable[[str], None], method: Method | None = None
) -> None:
    """Load every backbone that a study may use, once: what is not in the hub's cache is downloaded.

    Args:
        say: told what is there.

    Raises:
        ValueError: a backbone cannot be loaded.
    """
    load = (method or Method()).load_backbone
    for name in _levels(study, "backbone"):
        load(name, "cpu")
        say(f"weights of {name}: they are here")


def fetch_features(
    study: StudyConfig,
    data_root: Path | None,
    cache_dir: Path | None = None,
    *,
    verbose: bool = False,
    method: Method | None = None,
    console: Console | None = None,
) -> None:
    """Extract every feature set that a study may read; what the cache has is not extracted again.

    On this machine's GPUs if the study asks for GPUs and torch can use them, else on its cores.

    Args:
        study: the study, whatever of it has been run.
        data_root: folder of the data sets.
        cache_dir: of the features; see default_cache_dir.
        verbose: let Ray talk.
        method: ship.
        console: where progress goes.

    Raises:
        ValueError: a backbone or a data set cannot be read.
        ClusterError: Ray cannot do it.
    """
    method, cache = method or Method(), cache_dir or default_cache_dir()
    console = console or SteadyConsole()
    say = line_printer(console)
    study = _able(study, say)
    fingerprints = Fingerprints(method, data_root, cache)
    needs = needed(study, make_plan(study, Ledger(), fingerprints))
    with encoder_here(study, method, verbose=verbose, begun=lambda: None) as encode:
        prepare_features(needs, fingerprints, method, cache, console, encode)
    many = "1 feature set is" if len(needs) == 1 else f"{len(needs)} feature sets are"
    say(f"{many} in {cache}")


def _able(study: StudyConfig, say: Callable[[str], None]) -> StudyConfig:
    """The study without its GPUs where torch cannot use any: a login node seldom has one."""
    asks = study.resources.gpus or (study.resources.auto and usable_gpus())
    why = why_no_gpu() if asks else None
    if why is None:
        return study
    say(f"torch cannot use a GPU here ({why.rstrip('.')}): features are extracted on the CPU")
    alone = study.resources.model_copy(update={"auto": False, "gpus": 0.0})
    return study.model_copy(update={"resources": alone})


def _levels(study: StudyConfig, name: str) -> list[Any]:
    """What a setting may be: its factor's levels, or the constant alone."""
    return levels_of(study, name) if name in study.space else [getattr(study.trial, name)]
