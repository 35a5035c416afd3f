"""Image features of a whole dataset: extracted once, cached by content, read from a memory map."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ship.datasets.base import SPLITS, PictureDataset
from ship.features.cache import cache_key, cache_path, read_features
from ship.features.encode import EXTRACTION_VERSION, ImageEncoder, encode_split
from ship.features.shards import ShardStore
from ship.features.split_extraction import Encode, SplitExtraction
from ship.features.views import AUGMENTATION
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
        cache_dir: where features are kept, a file a split.
        progress: called at the start and after each batch; never where all is cached.
        splits: those to extract, of SPLITS; the others are empty, whatever pictures they have.
        encode: what encodes the pictures; threads of this machine, unless told otherwise.
    Raises:
        DatasetError: pictures that cannot be decoded, by name; of their split only whole shards
            are kept.
        ValueError: views < 0, an unknown split, or features that are not finite.
    """
    wanted = places(clip, dataset, views, cache_dir, splits)
    works: dict[str, SplitExtraction] = {}
    found: dict[str, np.ndarray] = {}
    for place in wanted:
        shape = (len(dataset.splits[place.split]), 1 + place.views, None)
        features = read_features(place.path, place.key, shape)
        if features is None:
            works[place.split] = place.extraction(clip, dataset)
        else:
            found[place.split] = features
    report = _Counter(progress, works.values())
    for place in wanted:
        if place.split in found:
            ShardStore(place.path, place.key).remove()
    for split, work in works.items():
        found[split] = work.run(encode, report.add)
    return _feature_set(clip, dataset, found, views)


@dataclass(frozen=True)
class Place:
    """Where the cache has, or would have, the features of a split with so many augmented views."""

    split: str
    views: int
    path: Path
    key: str

    def extraction(self, clip: ImageEncoder, dataset: PictureDataset) -> SplitExtraction:
        """What is to be done where it has none."""
        return SplitExtraction(clip, dataset, self.split, self.views, self.path, self.key)


def places(
    clip: ImageEncoder,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    splits: Collection[str] = SPLITS,
) -> list[Place]:
    """The places of a dataset's splits that have pictures; arguments as of extract_features.

    Raises:
        ValueError: views < 0, or an unknown split.
    """
    if views < 0:
        raise ValueError(f"views must be >= 0, got {views}")
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise ValueError(f"splits must be of {', '.join(SPLITS)}, got {', '.join(unknown)}")
    found = []
    for split in SPLITS:
        if split in splits and len(dataset.splits[split]):
            extra = views if split == "train" else 0
            key = _key(clip, dataset, split, extra)
            path = cache_path(cache_dir, f"{dataset.name}-{clip.name}-{split}", key)
            found.append(Place(split, extra, path, key))
    return found


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


def _key(clip: ImageEncoder, dataset: PictureDataset, split: str, views: int) -> str:
    return cache_key(
        {
            "extraction_version": EXTRACTION_VERSION,
            "backbone": clip.fingerprint,
            "preprocess": clip.preprocess_id,
            "dataset": dataset.fingerprint,
            "split": split,
            "views": views,
            "augmentation": AUGMENTATION if views else "",
        }
    )


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
