"""Image features of a whole dataset: extracted once, and cached by content."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from ship.datasets.base import SPLITS, PictureDataset
from ship.features.encode import ImageEncoder, encode_split
from ship.features.split_extraction import Encode, SplitExtraction
from ship.subsets import FeatureSet

Progress = Callable[[int, int], None]
"""Called with (views done, views to do in all), from the calling thread."""


def extract_features(
    clip: ImageEncoder,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    progress: Progress | None = None,
    splits: Collection[str] = SPLITS,
    encode: Encode = encode_split,
) -> FeatureSet:
    """Features of a dataset's splits, from the cache where it has them.

    While a split is extracted its finished shards are kept: what was interrupted or killed goes on
    from the last one. On the same kind of device the result is the same to the bit.

    Args:
        views: augmented views of each training picture, beside the picture itself.
        cache_dir: where features are kept, a file a shard.
        progress: called at the start and after each batch; never where all is cached.
        splits: those to extract, of SPLITS; the others are empty, whatever pictures they have.
        encode: what encodes the pictures; threads of this machine, unless told otherwise.
    Raises:
        DatasetError: pictures that cannot be decoded, by name; of their split only whole shards
            are kept.
        ValueError: views < 0, an unknown split, or features that are not finite.
    """
    works = extractions(clip, dataset, views, cache_dir, splits)
    report = _Counter(progress, [work for work in works if work.done < work.total])
    found = {work.split: work.run(encode, report.add) for work in works}
    return _feature_set(clip, dataset, found, views)


def extractions(
    clip: ImageEncoder,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    splits: Collection[str] = SPLITS,
) -> list[SplitExtraction]:
    """What the cache has, and lacks, of each split that has pictures; as of extract_features.

    Raises:
        ValueError: views < 0, or an unknown split.
    """
    if views < 0:
        raise ValueError(f"views must be >= 0, got {views}")
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise ValueError(f"splits must be of {', '.join(SPLITS)}, got {', '.join(unknown)}")
    return [
        SplitExtraction(clip, dataset, split, views if split == "train" else 0, cache_dir)
        for split in SPLITS
        if split in splits and len(dataset.splits[split])
    ]


class _Counter:
    """Adds up what has been done of several splits, and reports it."""

    def __init__(self, progress: Progress | None, works: Collection[SplitExtraction]) -> None:
        self._progress = progress
        self._done = sum(work.done for work in works)
        self._total = sum(work.total for work in works)
        if works:
            self.add(0)

    def add(self, views: int) -> None:
        self._done += views
        if self._progress is not None:
            self._progress(self._done, self._total)


def _feature_set(
    clip: ImageEncoder, dataset: PictureDataset, found: Mapping[str, np.ndarray], views: int
) -> FeatureSet:
    dim = next((features.shape[-1] for features in found.values()), 0)
    no_label = np.empty(0, dtype=np.int64)
    features = {
        split: found.get(split, np.empty((0, 1 + extra, dim), dtype=np.float32))
        for split, extra in (("train", views), ("val", 0), ("test", 0))
    }
    labels = {
        split: dataset.splits[split].labels if split in found else no_label for split in SPLITS
    }
    return FeatureSet(
        class_names=dataset.class_names,
        template=dataset.template,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        backbone_fingerprint=clip.fingerprint,
        train=features["train"],
        train_labels=labels["train"],
        val=features["val"][:, 0],
        val_labels=labels["val"],
        test=features["test"][:, 0],
        test_labels=labels["test"],
        n_seen=dataset.n_seen,
    )
