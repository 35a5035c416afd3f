"""The doors between harness and ship: what the study calls on the driver and on a worker.

ship (torch, open_clip) is imported inside the functions: a finished study never loads it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ship.metrics import EpochMetrics
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.features import FeatureSet

RunTrial = Callable[[TrialConfig, Sequence[int], Any, Any], Iterator[EpochMetrics]]
Progress = Callable[[int, int], None]


def run_trial(
    config: TrialConfig, seeds: Sequence[int], features: Any, clip: Any
) -> Iterator[EpochMetrics]:
    """ship.trial.run_trial."""
    from ship.trial import run_trial as run

    return run(config, seeds, features, clip)


def load_backbone(name: str, device: str) -> Any:
    """ship.backbone.FrozenCLIP.load."""
    from ship.backbone import FrozenCLIP

    return FrozenCLIP.load(name, device=device)


def dataset_fingerprint(name: str, data_root: Path | None) -> str:
    """Fingerprint of a data set's content."""
    from ship.datasets import load_dataset

    return load_dataset(name, data_root).fingerprint


def extract(
    clip: Any, dataset: str, data_root: Path | None, views: int, cache_dir: Path, progress: Progress
) -> "FeatureSet":
    """ship.features.extract_features of a data set by name."""
    from ship.datasets import load_dataset
    from ship.features import extract_features

    return extract_features(clip, load_dataset(dataset, data_root), views, cache_dir, progress)


@dataclass(frozen=True)
class Method:
    """The functions of ship that a study needs; tests put an analytic method in their place.

    run_trial, load_backbone: called on workers, so they travel by pickle.
    dataset_fingerprint, extract: called on the driver.
    """

    run_trial: RunTrial = run_trial
    load_backbone: Callable[[str, str], Any] = load_backbone
    dataset_fingerprint: Callable[[str, Path | None], str] = dataset_fingerprint
    extract: Callable[[Any, str, Path | None, int, Path, Progress], Any] = extract
