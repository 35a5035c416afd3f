"""What the harness calls of ship, on the driver and on a worker; tests have a method of their own.

ship (torch, open_clip) is imported inside the functions: a finished study never loads it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.resources import AnalyticCosts
from ship.clip import Precision
from ship.metrics import EpochMetrics
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.features import Encode, FeatureSet
    from ship.training import Checkpoint

# settings (one for all replicas, or one for each), seeds, features, backbone, targets, and the
# checkpoint to go on from, or None
Configs = TrialConfig | Sequence[TrialConfig]
RunTrial = Callable[
    [Configs, Sequence[int], Any, Any, Mapping[str, Any], Any], Iterator[EpochMetrics]
]
Progress = Callable[[int, int], None]
SPLITS = ("train", "val", "test")


def run_trial(
    config: Configs,
    seeds: Sequence[int],
    features: Any,
    clip: Any,
    targets: Mapping[str, Any],
    resume: "Checkpoint | None" = None,
    keep: bool = False,
) -> Iterator[EpochMetrics]:
    """ship.trial.run.run_trial."""
    from ship.trial import run_trial as run

    return run(config, seeds, features, clip, targets, resume=resume, keep=keep)


def keeping(run: Callable[..., Iterator[EpochMetrics]]) -> RunTrial:
    """A run_trial whose trials keep what they train; their `trained` has it at the end."""
    return partial(run, keep=True)


def load_backbone(name: str, device: str, precision: Precision = "fp32") -> Any:
    """ship.clip.frozen_clip.FrozenCLIP.load."""
    from ship.clip import FrozenCLIP

    return FrozenCLIP.load(name, device=device, precision=precision)


def dataset_identity(name: str, data_root: Path | None) -> tuple[str, str]:
    """Fingerprint of a data set's content, and which official split it has ("": none)."""
    from ship.datasets import load_dataset

    pictures = load_dataset(name, data_root)
    return pictures.fingerprint, pictures.split_version


def extract(
    clip: Any,
    dataset: str,
    data_root: Path | None,
    views: int,
    cache_dir: Path,
    progress: Progress,
    splits: Sequence[str] = SPLITS,
    encode: "Encode | None" = None,
) -> "FeatureSet":
    """ship.features.extract_features of a data set by name; encode: None for this machine."""
    from ship.datasets import load_dataset
    from ship.features import encode_split, extract_features

    pictures = load_dataset(dataset, data_root)
    return extract_features(
        clip, pictures, views, cache_dir, progress, splits, encode or encode_split
    )


def extraction_seconds(
    clip: Any,
    dataset: str,
    data_root: Path | None,
    views: int,
    cache_dir: Path,
    splits: Sequence[str],
    budget: float,
) -> float:
    """ship.features.extraction_seconds of a data set by name."""
    from ship.datasets import load_dataset
    from ship.features import extraction_seconds as seconds

    return seconds(clip, load_dataset(dataset, data_root), views, cache_dir, splits, budget)


@dataclass(frozen=True)
class Method:
    """The functions of ship that a study needs; tests put an analytic method in their place.

    run_trial, load_backbone: called on workers, so they travel by pickle.
    dataset_identity, extract: called on the driver.
    accelerator: torch device of a trial that has GPUs.
    extraction_seconds: called on the driver, for a plan; None: nobody knows how long it takes.
    costs: given the data root, what counts a trial's FLOPs; None: nobody knows them.
    """

    run_trial: RunTrial = run_trial
    load_backbone: Callable[..., Any] = load_backbone
    dataset_identity: Callable[[str, Path | None], tuple[str, str]] = dataset_identity
    extract: Callable[[Any, str, Path | None, int, Path, Progress, Sequence[str], Any], Any] = (
        extract
    )
    accelerator: str = "cuda"
    costs: Callable[[Path | None], AnalyticCosts] | None = AnalyticCosts
    extraction_seconds: (
        Callable[[Any, str, Path | None, int, Path, Sequence[str], float], float] | None
    ) = extraction_seconds
