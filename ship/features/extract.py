"""Features of a whole dataset, extracted once: each split's shards are files, checked when read."""

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
from ship.datasets.base import SPLITS, PictureDataset
from ship.features.encode import (
    AUGMENTATION,
    Done,
    Features,
    Shard,
    cut,
    encode_split,
)
from ship.subsets import FeatureSet
from ship.whole_file import write_whole

logger = logging.getLogger(__name__)

EXTRACTION_VERSION: Final = 1
"""Raised by hand whenever extraction gives other numbers for the same pictures and weights."""
FORMAT_VERSION: Final = 3
"""Raised by hand whenever write_features writes something that an older one would misread."""
_VIEWS: Final = 512
"""Of a shard. A CPU with two cores takes about a minute for them with ViT-B/16."""
_BATCH: Final = 64
"""Views in the largest batch that an encoder makes; a shard is a whole number of such batches."""

Rows = Int64[np.ndarray, " pictures"]
"""Places of pictures in their split, ascending."""
Encode = Callable[
    [FrozenCLIP, PictureDataset, str, int, Sequence[Shard], Done],
    Generator[tuple[Shard, Features], None, None],
]
"""What encodes shards of a split, with augmented views: this machine's threads, or others.

Shards may come in any order. Closing the generator ends the work. DatasetError names all pictures
that cannot be decoded.
"""


def extract_features(
    clip: FrozenCLIP,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    splits: Collection[str] = SPLITS,
    encode: Encode | None = None,
    classes: Collection[int] | None = None,
) -> FeatureSet:
    """Features of a dataset's splits, from the cache where it has them.

    While a split is extracted its finished shards are kept: what was interrupted or killed goes on
    from the last one. On the same kind of device the result is the same to the bit.

    Args:
        views: augmented views of each training picture, beside the picture itself.
        cache_dir: where features are kept, a file a shard.
        progress: called with (views done, views to do in all) at the start and after each batch,
            from the calling thread; never where all is cached.
        splits: those to extract, of SPLITS; the others are empty, whatever pictures they have.
        encode: what encodes the pictures; None: threads of this machine.
        classes: labels of the classes whose features are returned. Defaults to all. Whole shards
            are extracted and cached, for other studies to share.
    Raises:
        DatasetError: pictures that cannot be decoded, by name; of their split only whole shards
            are kept.
        ValueError: features that are not finite.
    """
    works = _extractions(clip, dataset, views, cache_dir, splits, classes)
    for work in works:
        work.read_cache()
    missing = [work for work in works if work.missing]
    total = sum(work.views * work.pictures for work in missing)
    done = total - sum(work.views * sum(map(len, work.missing)) for work in missing)

    def add(views: int) -> None:
        nonlocal done
        done += views
        progress(done, total)

    if missing:
        add(0)
    found = {work.split: work.run(encode or encode_split, add) for work in works}
    dim = next((features.shape[-1] for features in found.values()), 0)
    labels = {work.split: work.labels for work in works}
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        shape = (0, 1 + views if split == "train" else 1, dim)
        features = found.get(split, np.empty(shape, dtype=np.float32))
        arrays[split] = features if split == "train" else features[:, 0]
        arrays[f"{split}_labels"] = labels.get(split, np.empty(0, dtype=np.int64))
    return FeatureSet(
        class_names=dataset.class_names,
        template=dataset.template,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        backbone_fingerprint=clip.fingerprint,
        n_seen=dataset.n_seen,
        **arrays,
    )


def count_missing(
    clip: FrozenCLIP,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    splits: Collection[str] = SPLITS,
    classes: Collection[int] | None = None,
) -> dict[str, int]:
    """Count the images that extract_features would encode, by split.

    Files of the cache are looked for, and not read.

    Args: see extract_features.
    """
    works = _extractions(clip, dataset, views, cache_dir, splits, classes)
    counts = {work.split: sum(map(len, work.absent_shards())) for work in works}
    return {split: count for split, count in counts.items() if count}


def _extractions(
    clip: FrozenCLIP,
    dataset: PictureDataset,
    views: int,
    cache: Path,
    splits: Collection[str],
    classes: Collection[int] | None,
) -> "list[_SplitExtraction]":
    """What the cache has, and lacks, of each split that has pictures; as of extract_features."""
    found = []
    for split in (one for one in SPLITS if one in splits):
        labels = dataset.splits[split].labels
        wanted = np.full(len(labels), fill_value=True)
        if classes is not None:
            wanted = np.isin(labels, [*classes])
        rows = wanted.nonzero()[0]
        if len(rows):
            augmented = views if split == "train" else 0
            found.append(_SplitExtraction(clip, dataset, split, augmented, cache, rows))
    return found


class _SplitExtraction:
    """The features of one split, of which the cache may have some shards, all or none.

    Attributes:
        split: of SPLITS.
        labels: of the wanted pictures.
        pictures: how many its shards have. views: of each, the picture itself included.
        missing: shards that are to be encoded, once the cache was read.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        dataset: PictureDataset,
        split: str,
        views: int,
        cache_dir: Path,
        rows: Rows,
    ) -> None:
        self.split, self.views = split, 1 + views
        self.labels = dataset.splits[split].labels[rows]
        self._clip, self._dataset, self._rows = clip, dataset, rows
        decisive = {
            "format_version": FORMAT_VERSION,
            "extraction_version": EXTRACTION_VERSION,
            "backbone": clip.fingerprint,
            "preprocess": clip.preprocess_id,
            "dataset": dataset.pictures_fingerprint or dataset.fingerprint,
            "split": split,
            "views": views,
            "augmentation": AUGMENTATION if views else "",
        }
        self._key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        # for people who list the folder
        label = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{dataset.name}-{clip.name}-{split}")[:80]
        self._begin = cache_dir / f"{label}-{self._key[:24]}"
        wanted = {*rows.tolist()}
        every = shards_of(len(dataset.splits[split]), views)
        self._shards = [shard for shard in every if not wanted.isdisjoint(shard)]
        self.pictures = sum(map(len, self._shards))
        self._found: dict[Shard, Features] = {}
        self.missing: list[Shard] = []

    def absent_shards(self) -> list[Shard]:
        """Return the shards that have no file in the cache."""
        return [shard for shard in self._shards if not self._place(shard)[0].exists()]

    def read_cache(self) -> None:
        """Read the shards that the cache has, and note the missing ones."""
        read = ((s, read_features(*self._place(s), (len(s), self.views))) for s in self._shards)
        self._found = {shard: features for shard, features in read if features is not None}
        self.missing = [shard for shard in self._shards if shard not in self._found]

    def run(self, encode: Encode, done: Done) -> Features:
        """Encode and keep what is missing; the features of the wanted pictures, read-only.

        Raises:
            DatasetError: pictures that cannot be decoded; finished shards are kept.
            ValueError: features that are not finite.
        """
        writable = True
        encoded = encode(self._clip, self._dataset, self.split, self.views - 1, self.missing, done)
        with closing(encoded):
            for shard, features in encoded if self.missing else ():  # else no thread is started
                if not np.isfinite(features).all():
                    where = f"pictures {shard.start} and on of {self._dataset.name}'s {self.split}"
                    what = f"backbone {self._clip.name} gives features that are not finite"
                    raise ValueError(f"{what} for {where} split")
                self._found[shard] = features
                writable = writable and write_features(*self._place(shard), features)
        dim = self._found[self._shards[0]].shape[-1]
        whole = np.empty((len(self._rows), self.views, dim), dtype=np.float32)
        for shard in self._shards:
            first, last = np.searchsorted(self._rows, (shard.start, shard.stop))
            own = self._rows[first:last] - shard.start
            whole[first:last] = self._found.pop(shard)[own]  # never the whole twice
        whole.flags.writeable = False
        return whole

    def _place(self, shard: Shard) -> tuple[Path, str]:
        """A shard's file, and the key in it."""
        rows = f"{shard.start}-{shard.stop}"
        return Path(f"{self._begin}.{rows}.safetensors"), f"{self._key} {rows}"


def shards_of(pictures: int, views: int) -> list[Shard]:
    """A split cut into shards, which depend on nothing else: whoever goes on finds the same ones.

    Args:
        pictures: of the split.
        views: augmented views of each picture, beside the picture itself.
    """
    return cut(Shard(pictures), _VIEWS // _BATCH * max(1, _BATCH // (1 + views)))


def read_features(path: Path, key: str, rows: tuple[int, int]) -> Features | None:
    """Read a shard, after its checksum was verified.

    The checksum finds accidents. Whoever may write to the folder can make files that pass.

    Args:
        path: of the shard.
        key: that it must have been written under.
        rows: pictures and views that it must have.

    Returns:
        None where there is none, or it is not sound: then a warning names it, and it is removed.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        with safe_open(path, framework="numpy") as file:
            said, found = file.metadata(), np.asarray(file.get_tensor("features"))
        if found.dtype != np.float32 or found.ndim != 3 or found.shape[:2] != rows:
            raise ValueError(f"its shape is {found.shape}, its type {found.dtype}")
        if said != {"key": key, "blake2b": _checksum(key, found)}:
            raise ValueError("it is damaged, or was written for something else")
    except FileNotFoundError:
        return None
    # of types that numpy does not know, safetensors raises others
    except (OSError, ValueError, TypeError, AttributeError, KeyError, SafetensorError) as why:
        logger.warning("cached features %s cannot be used (%s): extracting again", path, why)
        with suppress(OSError):  # whoever looks again need not be told again
            path.unlink()
        return None
    return found


def write_features(path: Path, key: str, features: Features) -> bool:
    """Write a shard so that readers see all of it or nothing; whether it was written.

    A folder that cannot be written costs a warning, not the features: they are only not kept.
    """
    array = np.ascontiguousarray(features)
    content = save({"features": array}, {"key": key, "blake2b": _checksum(key, array)})
    try:
        write_whole(path, content)
    except OSError as why:
        logger.warning("features cannot be kept in %s (%s)", path.parent, why.strerror)
        return False
    return True


def _checksum(key: str, features: Features) -> str:
    said = hashlib.blake2b(f"{key} {features.shape}".encode(), digest_size=16)
    said.update(features.data)
    return said.hexdigest()
