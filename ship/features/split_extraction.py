"""One split's features: its shards from the cache, and the others encoded and kept there."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from ship.datasets.base import PictureDataset
from ship.features.cache import Features, cache_key, cache_path, read_features, write_features
from ship.features.encode import EXTRACTION_VERSION, Block, ImageEncoder, Shard
from ship.features.views import AUGMENTATION

_VIEWS: Final = 512
"""Of a shard. A CPU with two cores takes about a minute for them with ViT-B/16."""
_BATCH: Final = 64
"""Views in the largest batch that an encoder makes; a shard is a whole number of such batches."""

Encode = Callable[
    [ImageEncoder, PictureDataset, str, int, Sequence[Shard]], Generator[Block, None, None]
]
"""What encodes shards of a split: this machine's threads (ship.features.encode), or others.

Blocks may come in any order, but each belongs to one shard, and a shard's own come in its order.
Closing the generator ends the work. DatasetError names all pictures that cannot be decoded.
"""


class SplitExtraction:
    """The features of one split, of which the cache may have some shards, all or none.

    Attributes:
        split: of SPLITS.
        views: augmented views of each picture, beside the picture itself.
        total: views that the split has, the pictures themselves included.
        done: views that need not be encoded again.
    """

    def __init__(
        self, clip: ImageEncoder, dataset: PictureDataset, split: str, views: int, cache_dir: Path
    ) -> None:
        self.split: Final = split
        self.views: Final = views
        self._clip, self._dataset = clip, dataset
        self._cache_dir, self._key = cache_dir, _key(clip, dataset, split, views)
        self._shards = shards_of(len(dataset.splits[split]), views)
        found = {shard: self._read(shard) for shard in self._shards}
        self._found = {shard: part for shard, part in found.items() if part is not None}
        self.total = len(dataset.splits[split]) * (1 + views)
        self.done = sum(map(len, self._found)) * (1 + views)

    def run(self, encode: Encode, add: Callable[[int], None]) -> Features:
        """Encode and keep what is missing; all features of the split, read-only.

        Args:
            add: called with the number of views in each block that was encoded.

        Raises:
            DatasetError: pictures that cannot be decoded; finished shards are kept.
            ValueError: features that are not finite.
        """
        missing = [shard for shard in self._shards if shard not in self._found]
        writable = True
        with closing(self._encoded(encode, missing, add)) as finished:
            for shard, features in finished:
                self._found[shard] = features
                writable = writable and write_features(*self._place(shard), features)
        dim = self._found[self._shards[0]].shape[-1]
        whole = np.empty((self._shards[-1].stop, 1 + self.views, dim), dtype=np.float32)
        for shard in self._shards:
            whole[shard.start : shard.stop] = self._found.pop(shard)  # never the whole twice
        whole.flags.writeable = False
        return whole

    def _place(self, shard: Shard) -> tuple[Path, str]:
        """A shard's file, and the key in it."""
        label = f"{self._dataset.name}-{self._clip.name}-{self.split}"
        rows = f"{shard.start}-{shard.stop}"
        return cache_path(self._cache_dir, label, self._key, rows), f"{self._key} {rows}"

    def _read(self, shard: Shard) -> Features | None:
        return read_features(*self._place(shard), (len(shard), 1 + self.views))

    def _encoded(
        self, encode: Encode, shards: Sequence[Shard], add: Callable[[int], None]
    ) -> Generator[tuple[Shard, Features], None, None]:
        """Put blocks together to whole shards."""
        if not shards:
            return
        owner = {index: shard for shard in shards for index in shard}
        begun: dict[Shard, list[Features]] = {}
        with closing(encode(self._clip, self._dataset, self.split, self.views, shards)) as blocks:
            for start, features in blocks:
                self._check(start, features)
                shard = owner[start]
                parts = begun.setdefault(shard, [])
                parts.append(features)
                add(features.shape[0] * features.shape[1])
                if sum(map(len, parts)) == len(shard):
                    yield shard, np.concatenate(begun.pop(shard))

    def _check(self, start: int, features: Features) -> None:
        if not np.isfinite(features).all():
            raise ValueError(
                f"backbone {self._clip.name} gives features that are not finite for pictures "
                f"{start} and on of {self._dataset.name}'s {self.split} split"
            )


def shards_of(pictures: int, views: int) -> list[Shard]:
    """A split cut into shards of equal size, but for the last one.

    The cuts depend on nothing else: whoever goes on with a split finds the same ones.

    Args:
        pictures: of the split.
        views: augmented views of each picture, beside the picture itself.
    """
    size = _VIEWS // _BATCH * max(1, _BATCH // (1 + views))
    return [Shard(start, min(start + size, pictures)) for start in range(0, pictures, size)]


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
