"""What the harness calls of ship, on the driver and on a worker; tests have a method of their own.

ship (torch, open_clip) is imported inside the functions: a finished study never loads it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ship.architectures import Precision
from ship.plugins import installed_version
from ship.trial_config import RESULTS_VERSION, EpochMetrics, TrialConfig

if TYPE_CHECKING:
    from ship.datasets import PictureDataset
    from ship.subsets import FeatureSet

# settings, seeds, features, backbone, targets, and the checkpoint to go on from, or None
RunTrial = Callable[
    [TrialConfig, Sequence[int], Any, Any, Mapping[str, Any], Any], Iterator[EpochMetrics]
]
Progress = Callable[[int, int], None]
SPLITS = ("train", "val", "test")


@cache
def code_version() -> str:
    """Return the versions of the code that decides results."""
    installed = installed_version("ship-sweep") or "unknown"
    return f"ship-sweep {installed} (results version {RESULTS_VERSION})"


def check_code(driver: str) -> None:
    """Refuse to run on a node whose code differs from the driver's.

    Args:
        driver: code_version() of the driver.

    Raises:
        ValueError: One line with both versions.
    """
    if driver != code_version():
        raise ValueError(
            f"this node has {code_version()}, and the driver has {driver}. Install the same "
            "version on every node"
        )


def run_trial(*given: Any, keep: bool = False) -> Iterator[EpochMetrics]:
    """ship.trial.run_trial.

    Args:
        given: see RunTrial.
        keep: whether the trial keeps what it trains; its `trained` has it at the end.
    """
    from ship.trial import run_trial as run

    config, seeds, features, clip, targets, resume = given
    return run(config, seeds, features, clip, targets, resume=resume, keep=keep)


def load_backbone(name: str, device: str, precision: Precision = "fp32") -> Any:
    """ship.clip.FrozenCLIP.load."""
    from ship.clip import FrozenCLIP

    return FrozenCLIP.load(name, device=device, precision=precision)


def load_dataset(
    name: str, data_root: Path | None, cache_dir: Path, **reading: Any
) -> "PictureDataset":
    """ship.datasets.load_dataset, which remembers in cache_dir what pictures hold.

    Args:
        reading: how one's own folder is read: the fields of ship.datasets.ImageFolder.
    """
    from ship.datasets import ImageFolder
    from ship.datasets import load_dataset as load

    return load(name, data_root, cache_dir / "digests", ImageFolder(**reading))


def extract(*given: Any) -> "FeatureSet":
    """ship.features.extract_features.

    Args:
        given: backbone, dataset, views, cache folder, progress, splits, what encodes, or None, and
            the labels of the classes, or None for all.
    """
    from ship.features import extract_features

    return extract_features(*given)


@dataclass(frozen=True)
class Method:
    """The functions of ship that a study needs; tests put an analytic method in their place.

    run_trial, load_backbone: called on workers, so they travel by pickle.
    load_dataset, extract: called on the driver. What the first gives is handed to the second; it
        has a fingerprint and a split_version ("": there is but one).
    accelerator: torch device of a trial that has GPUs.
    """

    run_trial: RunTrial = run_trial
    load_backbone: Callable[..., Any] = load_backbone
    load_dataset: Callable[..., Any] = load_dataset
    extract: Callable[..., Any] = extract
    accelerator: str = "cuda"
