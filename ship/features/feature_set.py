"""Image features of a whole dataset: extracted once, and cached by content."""

from collections.abc import Callable, Collection
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
    missing = [work for work in works if work.done < work.total]
    done, total = sum(work.done for work in missing), sum(work.total for work in missing)

    def add(views: int) -> None:
        nonlocal done
        done += views
        if progress is not None:
            progress(done, total)

    if missing:
        add(0)
    found = {work.split: work.run(encode, add) for work in works}
    dim = next((features.shape[-1] for features in found.values()), 0)
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        shape = (0, 1 + views if split == "train" else 1, dim)
        features = found.get(split, np.empty(shape, dtype=np.float32))
        arrays[split] = features if split == "train" else features[:, 0]
        none = np.empty(0, dtype=np.int64)
        arrays[f"{split}_labels"] = dataset.splits[split].labels if split in found else none
    return FeatureSet(
        class_names=dataset.class_names,
        template=dataset.template,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        backbone_fingerprint=clip.fingerprint,
        n_seen=dataset.n_seen,
        **arrays,
    )


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
