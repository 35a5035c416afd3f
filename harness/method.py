"""The functions of ship that the harness calls on the driver and on workers. Tests replace them.

Modules of ship that need torch or open_clip are imported inside the functions, so that the report
of a finished study does not load them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ship.architectures import Precision
from ship.plugins import get_installed_version
from ship.trial_config import RESULTS_VERSION, EpochMetrics, TrialConfig

if TYPE_CHECKING:
    from ship.datasets import ImageDataset
    from ship.subsets import FeatureSet

# arguments: config, seeds, features, backbone, targets, and the checkpoint to resume from or None
RunTrial = Callable[
    [TrialConfig, Sequence[int], Any, Any, Mapping[str, Any], Any], Iterator[EpochMetrics]
]
Progress = Callable[[int, int], None]  # arguments: number of finished items, total
SPLITS = ("train", "val", "test")


@cache
def get_code_version() -> str:
    """Return the version of ship-sweep and the results version, as text."""
    installed = get_installed_version("ship-sweep") or "unknown"
    return f"ship-sweep {installed} (results version {RESULTS_VERSION})"


def check_code(driver: str) -> None:
    """Refuse to run on a node whose code differs from the driver's.

    Args:
        driver: Result of `get_code_version` on the driver.

    Raises:
        ValueError: The versions differ. The message contains both.
    """
    if driver != get_code_version():
        raise ValueError(
            f"this node has {get_code_version()}, and the driver has {driver}. Install the same "
            "version on every node"
        )


def run_trial(*args: Any, save_models: bool = False) -> Iterator[EpochMetrics]:
    """Call ship.trial.run_trial.

    Args:
        args: Arguments of RunTrial.
        save_models: Whether the returned iterator keeps the trained models. At its end, they are
            in its attribute `trained`.
    """
    from ship.trial import run_trial as run

    config, seeds, features, clip, targets, resume = args
    return run(config, seeds, features, clip, targets, resume=resume, save_models=save_models)


def load_backbone(name: str, device: str, precision: Precision = "fp32") -> Any:
    """Call ship.clip.FrozenCLIP.load."""
    from ship.clip import FrozenCLIP

    return FrozenCLIP.load(name, device=device, precision=precision)


def load_dataset(
    name: str, data_root: Path | None, cache_dir: Path, **options: Any
) -> "ImageDataset":
    """Call ship.datasets.load_dataset, which caches hashes of images in `cache_dir`.

    Args:
        name: Name of the dataset.
        data_root: Folder of the datasets. None if the dataset needs none.
        cache_dir: Cache folder.
        options: Fields of ship.datasets.ImageFolder, for a custom image folder.
    """
    from ship.datasets import ImageFolder
    from ship.datasets import load_dataset as load

    return load(name, data_root, cache_dir / "digests", ImageFolder(**options))


def extract(*args: Any) -> "FeatureSet":
    """Call ship.features.extract_features.

    Args:
        args: Arguments of extract_features by position.
    """
    from ship.features import extract_features

    return extract_features(*args)


@dataclass(frozen=True)
class MethodFunctions:
    """The functions of ship that a study calls. Tests replace them with an analytic method.

    Attributes:
        run_trial: Function that runs a trial. Called on workers, so it is pickled.
        load_backbone: Function that loads a backbone. Called on workers, so it is pickled.
        load_dataset: Function that loads a dataset. Called on the driver. The dataset has the
            attributes `fingerprint` and `split_version` of ship.datasets.ImageDataset.
        extract: Function that extracts the features of a loaded dataset. Called on the driver.
        accelerator: torch device of a trial that has GPUs.
    """

    run_trial: RunTrial = run_trial
    load_backbone: Callable[..., Any] = load_backbone
    load_dataset: Callable[..., Any] = load_dataset
    extract: Callable[..., Any] = extract
    accelerator: str = "cuda"
