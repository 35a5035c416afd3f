"""Extract the features of a dataset. They are cached on disk, one file per shard of a split.

A *shard* is a range of consecutive images. A *view* is an image or an augmented copy of it.
"""

import hashlib
import json
import logging
import re
import stat
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ship.clip import FrozenCLIP
from ship.datasets.base import SPLITS, ImageDataset
from ship.features.encode import (
    AUGMENTATION,
    Features,
    OnEncoded,
    Shard,
    encode_split,
    split_range,
)
from ship.subsets import FeatureSet, find_listed_rows
from ship.whole_file import write_whole

logger = logging.getLogger(__name__)

EXTRACTION_VERSION: Final = 1
"""Increment it if a code change alters the features of the same images and weights."""
FORMAT_VERSION: Final = 3
"""Increment it if the format of cache files changes incompatibly."""
_VIEWS: Final = 512
"""Maximum number of views in a shard. Two cores encode them in about a minute with ViT-B/16."""
_BATCH: Final = 64
"""Maximum number of views in a batch on a GPU. A full shard is a whole number of such batches."""

Rows = Int64[np.ndarray, " images"]
"""Indices of images in their split, ascending."""
Encode = Callable[
    [FrozenCLIP, ImageDataset, str, int, Sequence[Shard], OnEncoded],
    Generator[tuple[Shard, Features], None, None],
]
"""Function that encodes shards of a split, on this machine or on others.

Its arguments are those of ship.features.encode.encode_split. Its generator may yield shards in any
order, and raises a DatasetError that lists all images that cannot be decoded. Closing the generator
stops the work.
"""


def extract_features(
    clip: FrozenCLIP,
    dataset: ImageDataset,
    augmentations: int,
    cache_dir: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    splits: Collection[str] = SPLITS,
    encode: Encode | None = None,
    classes: Collection[int] | None = None,
) -> FeatureSet:
    """Return the features of a dataset, and extract those that are not cached.

    Each shard is cached as soon as it is finished, so that an interrupted extraction resumes after
    the last cached one. Results are bit-identical whether or not the extraction was interrupted, on
    the same type of device.

    Args:
        clip: Backbone that encodes the images.
        dataset: Dataset to extract.
        augmentations: Number of augmented views per training image, in addition to the image
            itself.
        cache_dir: Folder of the cache, with one file per shard.
        progress: Callback that gets the number of finished views and the total number. It is
            called in the calling thread, at the start and after each batch. If all features are
            cached, it is never called. Splits that are fully cached are not counted.
        splits: Splits to extract. All other splits are empty in the result.
        encode: Function that encodes the images. Defaults to encode_split, which uses threads of
            this machine.
        classes: Labels of the classes whose features are returned. Defaults to all. Shards with
            such classes are extracted and cached as a whole, so that other studies can use them.

    Raises:
        DatasetError: Images cannot be decoded. The message lists them. Finished shards are cached.
        ValueError: Features are not finite.
    """
    extractions = _make_extractions(clip, dataset, augmentations, cache_dir, splits, classes)
    for extraction in extractions:
        extraction.read_cache()
    missing = [extraction for extraction in extractions if extraction.missing]
    total = sum(extraction.views * extraction.images for extraction in missing)
    n_left = sum(extraction.views * sum(map(len, extraction.missing)) for extraction in missing)
    done = total - n_left

    def report(n_views: int) -> None:
        nonlocal done
        done += n_views
        progress(done, total)

    if missing:
        report(0)
    encode = encode or encode_split
    extracted = {extraction.split: extraction.run(encode, report) for extraction in extractions}
    # all arrays have the same feature size, also those of empty splits
    dim = next((features.shape[-1] for features in extracted.values()), 0)
    labels = {extraction.split: extraction.labels for extraction in extractions}
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        shape = (0, 1 + augmentations if split == "train" else 1, dim)
        features = extracted.get(split, np.empty(shape, dtype=np.float32))
        arrays[split] = features if split == "train" else features[:, 0]
        arrays[f"{split}_labels"] = labels.get(split, np.empty(0, dtype=np.int64))
    rows_of_split = {extraction.split: extraction.rows for extraction in extractions}
    rows = rows_of_split.get("train")
    few_shot = {} if rows is None else find_listed_rows(dataset, rows)
    return FeatureSet(
        class_names=dataset.class_names,
        template=dataset.template,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        backbone_fingerprint=clip.fingerprint,
        n_seen=dataset.n_seen,
        few_shot=few_shot,
        **arrays,
    )


def count_missing(
    clip: FrozenCLIP,
    dataset: ImageDataset,
    augmentations: int,
    cache_dir: Path,
    splits: Collection[str] = SPLITS,
    classes: Collection[int] | None = None,
) -> dict[str, int]:
    """Count the images that extract_features would encode, by split.

    The arguments are those of extract_features. Cached files are not read, so damaged ones count as
    cached.

    Returns:
        Number of images by split. Splits that are fully cached are omitted.
    """
    extractions = _make_extractions(clip, dataset, augmentations, cache_dir, splits, classes)
    counts = {
        extraction.split: sum(map(len, extraction.list_absent_shards()))
        for extraction in extractions
    }
    return {split: count for split, count in counts.items() if count}


def _make_extractions(
    clip: FrozenCLIP,
    dataset: ImageDataset,
    augmentations: int,
    cache: Path,
    splits: Collection[str],
    classes: Collection[int] | None,
) -> "list[_SplitExtraction]":
    """Create an extraction for each split in `splits` that has images of `classes`.

    The arguments are those of extract_features.
    """
    extractions = []
    for split in (name for name in SPLITS if name in splits):
        labels = dataset.splits[split].labels
        is_needed = np.full(len(labels), fill_value=True)
        if classes is not None:
            is_needed = np.isin(labels, [*classes])
        rows = is_needed.nonzero()[0]
        if len(rows):
            n = augmentations if split == "train" else 0
            extractions.append(_SplitExtraction(clip, dataset, split, n, cache, rows))
    return extractions


class _SplitExtraction:
    """The extraction of the requested images of one split, by shards.

    Attributes:
        split: Name of the split.
        labels: Labels of the requested images.
        rows: Requested images, as indices into the split.
        images: Number of images in the shards that contain requested images.
        views: Number of views per image, including the image itself.
        missing: Shards to encode. Empty before read_cache() is called.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        dataset: ImageDataset,
        split: str,
        augmentations: int,
        cache_dir: Path,
        rows: Rows,
    ) -> None:
        self.split, self.views = split, 1 + augmentations
        self.labels = dataset.splits[split].labels[rows]
        self._clip, self._dataset, self.rows = clip, dataset, rows
        key_content = {
            "format_version": FORMAT_VERSION,
            "extraction_version": EXTRACTION_VERSION,
            "backbone": clip.fingerprint,
            "preprocess": clip.preprocess_id,
            "dataset": dataset.images_fingerprint or dataset.fingerprint,
            "split": split,
            "views": augmentations,
            "augmentation": AUGMENTATION if augmentations else "",
        }
        self._key = hashlib.sha256(json.dumps(key_content, sort_keys=True).encode()).hexdigest()
        # for readers only: files are found by the key, which is part of their names
        label = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{dataset.name}-{clip.name}-{split}")[:80]
        self._path_prefix = cache_dir / f"{label}-{self._key[:24]}"
        row_set = {*rows.tolist()}
        shards = split_into_shards(len(dataset.splits[split]), augmentations)
        self._shards = [shard for shard in shards if not row_set.isdisjoint(shard)]
        self.images = sum(map(len, self._shards))
        self._features: dict[Shard, Features] = {}
        self.missing: list[Shard] = []

    def list_absent_shards(self) -> list[Shard]:
        """Return the shards that have no file in the cache."""
        return [shard for shard in self._shards if not self._get_path_and_key(shard)[0].exists()]

    def read_cache(self) -> None:
        """Read the cached shards, and set `missing` to the others."""
        self._features = {}
        for shard in self._shards:
            path, key = self._get_path_and_key(shard)
            features = read_features(path, key, (len(shard), self.views))
            if features is not None:
                self._features[shard] = features
        self.missing = [shard for shard in self._shards if shard not in self._features]

    def run(self, encode: Encode, on_encoded: OnEncoded) -> Features:
        """Encode and cache the missing shards, and return the features of the requested images.

        read_cache() must be called first. The result is read-only. It can be computed only once,
        because shards are freed as they are copied into it.

        Args:
            encode: Function that encodes the shards.
            on_encoded: Callback for progress.

        Raises:
            DatasetError: Images cannot be decoded. Finished shards are cached.
            ValueError: Features are not finite.
        """
        writable = True
        encoded = encode(
            self._clip, self._dataset, self.split, self.views - 1, self.missing, on_encoded
        )
        with closing(encoded):
            # If all shards are cached, `encoded` is not iterated: that would start threads.
            for shard, features in encoded if self.missing else ():
                if not np.isfinite(features).all():
                    images = f"images {shard.start} to {shard.stop - 1} of split {self.split}"
                    fault = f"backbone {self._clip.name} returned non-finite features"
                    raise ValueError(f"{fault} for {images} of {self._dataset.name}")
                self._features[shard] = features
                # after a failure no further files are written
                writable = writable and write_features(*self._get_path_and_key(shard), features)
        dim = self._features[self._shards[0]].shape[-1]
        array = np.empty((len(self.rows), self.views, dim), dtype=np.float32)
        for shard in self._shards:
            first, last = np.searchsorted(self.rows, (shard.start, shard.stop))
            rows = self.rows[first:last] - shard.start
            array[first:last] = self._features.pop(shard)[rows]  # frees each shard after its copy
        array.flags.writeable = False
        return array

    def _get_path_and_key(self, shard: Shard) -> tuple[Path, str]:
        """Return the path of a shard's file, and the key stored in it."""
        rows = f"{shard.start}-{shard.stop}"
        return Path(f"{self._path_prefix}.{rows}.safetensors"), f"{self._key} {rows}"


def split_into_shards(images: int, augmentations: int) -> list[Shard]:
    """Cut a split into shards.

    They depend only on the arguments, so that a later extraction has the same shards and finds them
    in the cache.

    Args:
        images: Number of images in the split.
        augmentations: Number of augmented views per image, in addition to the image itself.
    """
    return split_range(Shard(images), _VIEWS // _BATCH * max(1, _BATCH // (1 + augmentations)))


def read_features(path: Path, key: str, n_images_and_views: tuple[int, int]) -> Features | None:
    """Read a shard from the cache and verify its checksum.

    The checksum detects damage, not forgery: any user who can write to the folder can create valid
    files.

    Args:
        path: Path of the shard's file.
        key: Key that the file must contain.
        n_images_and_views: Expected numbers of images and views.

    Returns:
        The features. None if there is no file, or if it is invalid; an invalid file is removed, and
        a warning is logged.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a regular file")
        with safe_open(path, framework="numpy") as file:
            metadata, features = file.metadata(), np.asarray(file.get_tensor("features"))
        has_expected_shape = features.ndim == 3 and features.shape[:2] == n_images_and_views
        if features.dtype != np.float32 or not has_expected_shape:
            expected = "float32 of shape ({}, {}, size)".format(*n_images_and_views)
            raise ValueError(f"must be {expected}, got {features.dtype} of shape {features.shape}")
        if metadata != {"key": key, "blake2b": _compute_checksum(key, features)}:
            raise ValueError("damaged, or written for other data")
    except FileNotFoundError:
        return None
    # safetensors raises various errors for data types that numpy does not have
    except (OSError, ValueError, TypeError, AttributeError, KeyError, SafetensorError) as error:
        logger.warning("cached features %s cannot be used (%s); extracting them again", path, error)
        with suppress(OSError):  # removed so that the warning is not repeated
            path.unlink()
        return None
    return features


def write_features(path: Path, key: str, features: Features) -> bool:
    """Write a shard to the cache atomically. If that fails, log a warning.

    Returns:
        Whether the shard was written.
    """
    array = np.ascontiguousarray(features)
    content = save({"features": array}, {"key": key, "blake2b": _compute_checksum(key, array)})
    try:
        write_whole(path, content)
    except OSError as error:
        logger.warning("features cannot be cached in %s (%s)", path.parent, error.strerror)
        return False
    return True


def _compute_checksum(key: str, features: Features) -> str:
    """Return the checksum of a shard's key, shape and features, 32 hex digits."""
    digest = hashlib.blake2b(f"{key} {features.shape}".encode(), digest_size=16)
    digest.update(features.data)
    return digest.hexdigest()
