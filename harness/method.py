"""What the harness calls of ship, on the driver and on a worker; tests have a method of their own.

ship (torch, open_clip) is imported inside the functions: a finished study never loads it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ship.architectures import Precision
from ship.plugins import carried, load_carried
from ship.registry import Origin
from ship.trial_config import EpochMetrics, TrialConfig

if TYPE_CHECKING:
    from ship.datasets import PictureDataset
    from ship.features import Encode
    from ship.state import Checkpoint
    from ship.subsets import FeatureSet

# settings, seeds, features, backbone, targets, and the checkpoint to go on from, or None
RunTrial = Callable[
    [TrialConfig, Sequence[int], Any, Any, Mapping[str, Any], Any], Iterator[EpochMetrics]
]
Progress = Callable[[int, int], None]
SPLITS = ("train", "val", "test")
MOST_SAMPLED: Final = 512
"""Pictures whose encoding is timed."""


def run_trial(
    config: TrialConfig,
    seeds: Sequence[int],
    features: Any,
    clip: Any,
    targets: Mapping[str, Any],
    resume: "Checkpoint | None" = None,
    keep: bool = False,
) -> Iterator[EpochMetrics]:
    """ship.trial.run.run_trial.

    Args:
        keep: whether the trial keeps what it trains; its `trained` has it at the end.
    """
    from ship.trial import run_trial as run

    return run(config, seeds, features, clip, targets, resume=resume, keep=keep)


def load_backbone(name: str, device: str, precision: Precision = "fp32") -> Any:
    """ship.clip.FrozenCLIP.load."""
    from ship.clip import FrozenCLIP

    return FrozenCLIP.load(name, device=device, precision=precision)


def knowing_plugins(load: Callable[..., Any]) -> Callable[..., Any]:
    """A load_backbone that loads the files of plugins, too, before the backbone.

    What encodes pictures loads its backbone first, and a plugin may have pictures of its own kind.
    """
    files = carried()
    return partial(_load_knowing, files, load) if files else load


def _load_knowing(files: tuple[Origin, ...], load: Callable[..., Any], *args: Any) -> Any:
    load_carried(files)
    return load(*args)


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


def extract(
    clip: Any,
    dataset: "PictureDataset",
    views: int,
    cache_dir: Path,
    progress: Progress,
    splits: Sequence[str] = SPLITS,
    encode: "Encode | None" = None,
) -> "FeatureSet":
    """ship.features.extract_features; encode: None for this machine."""
    from ship.features import encode_split, extract_features

    return extract_features(
        clip, dataset, views, cache_dir, progress, splits, encode or encode_split
    )


def extraction_seconds(
    clip: Any,
    dataset: "PictureDataset",
    views: int,
    cache_dir: Path,
    splits: Sequence[str] = SPLITS,
    budget: float = 3.0,
) -> float:
    """Seconds that extract would take on a CPU with the same arguments; writes nothing.

    They are the processor's, shared out to its threads: others may use the machine now.

    Args:
        budget: seconds to spend on a sample of each split that lacks something.

    Raises:
        UndecodableError: a picture of the sample cannot be decoded.
    """
    from ship.features import missing_pictures

    missing = missing_pictures(clip, dataset, views, cache_dir, splits)
    own = {split: views if split == "train" else 0 for split in missing}
    return sum(
        n * _seconds_a_picture(clip, dataset.splits[split].pictures, own[split], budget)
        for split, n in missing.items()
        if n
    )


def _seconds_a_picture(clip: Any, pictures: Sequence[Any], views: int, budget: float) -> float:
    """Of pictures of the whole split, as neighbours are often of one class and size."""
    import numpy as np

    from ship.features import Layout, encode_pictures

    layout = Layout.for_device(clip.device)
    drawn = np.random.default_rng(0).permutation(len(pictures))[:MOST_SAMPLED]
    sample = [pictures[place] for place in drawn]
    batches = layout.batches(range(len(sample)), views)
    marks = [(time.process_time(), 0)]  # pictures that were done by then
    spent = budget * layout.threads * layout.cores_each
    with closing(encode_pictures(clip, sample, views, batches, layout)) as encoded:
        for batch, _ in encoded:
            marks.append((time.process_time(), marks[-1][1] + len(batch)))
            if marks[-1][0] - marks[0][0] > spent:
                break
    warm = layout.threads if len(marks) > layout.threads + 1 else 0  # each thread's first batch
    (begun, before), (ended, done) = marks[warm], marks[-1]
    return (ended - begun) / (layout.threads * layout.cores_each) / (done - before)


@dataclass(frozen=True)
class Method:
    """The functions of ship that a study needs; tests put an analytic method in their place.

    run_trial, load_backbone: called on workers, so they travel by pickle.
    load_dataset, extract: called on the driver. What the first gives is handed to the second; it
        has a fingerprint and a split_version ("": there is but one).
    accelerator: torch device of a trial that has GPUs.
    extraction_seconds: called on the driver, for a plan; None: nobody knows how long it takes.
    timed: whether a few epochs on noise, for a plan, take as long as those of a trial.
    """

    run_trial: RunTrial = run_trial
    load_backbone: Callable[..., Any] = load_backbone
    load_dataset: Callable[..., Any] = load_dataset
    extract: Callable[[Any, Any, int, Path, Progress, Sequence[str], Any], Any] = extract
    accelerator: str = "cuda"
    timed: bool = True
    extraction_seconds: Callable[[Any, Any, int, Path, Sequence[str], float], float] | None = (
        extraction_seconds
    )
