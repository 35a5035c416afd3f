"""One split's features, streamed to the cache shard by shard and joined when all are there."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ship.datasets.base import PictureDataset
from ship.features.cache import Features, read_features, write_features, write_parts
from ship.features.encode import Block, ImageEncoder
from ship.features.shards import Shard, ShardStore, shards_of

Encode = Callable[
    [ImageEncoder, PictureDataset, str, int, Sequence[Shard]], Generator[Block, None, None]
]
"""What encodes shards of a split: this machine's threads (ship.features.encode), or others.

Blocks may come in any order, but each belongs to one shard, and a shard's own come in its order.
Closing the generator ends the work. DatasetError names all pictures that cannot be decoded.
"""


class _ShardGoneError(Exception):
    """A shard's file was removed or spoilt since it was written."""


class SplitExtraction:
    """The extraction of one split whose file the cache does not have.

    A split of more than one shard goes on from those that an earlier process has finished.

    Attributes:
        total: views that the split has.
        done: views that need not be encoded again.
    """

    def __init__(
        self,
        clip: ImageEncoder,
        dataset: PictureDataset,
        split: str,
        views: int,
        path: Path,
        key: str,
    ) -> None:
        self._clip, self._dataset, self._split, self._views = clip, dataset, split, views
        self._path, self._key = path, key
        self._store = ShardStore(path, key)
        self._shards = shards_of(len(dataset.splits[split]), views)
        # a lone shard would only be written twice
        lone = len(self._shards) == 1
        self._missing = self._shards if lone else self._store.missing(self._shards)
        self.total = len(dataset.splits[split]) * (1 + views)
        self.done = self.total - sum(map(len, self._missing)) * (1 + views)

    def run(
        self, encode: Encode, add: Callable[[int], None]
    ) -> Float32[np.ndarray, "pictures views feature"]:
        """Encode what is missing, write the split's file and read it; the result is read-only.

        Args:
            add: called with the number of views in each block that was encoded.
        Raises:
            DatasetError: pictures that cannot be decoded; finished shards are kept, no file is.
            ValueError: features that are not finite.
        """
        if len(self._shards) == 1:
            ((_, features),) = self._encoded(encode, self._shards, add)
            write_features(self._path, self._key, features)
            features.flags.writeable = False
            return features
        held: dict[Shard, Features] = {}  # what the cache does not take
        missing, writable = self._missing, True
        while True:
            with closing(self._encoded(encode, missing, add)) as finished:
                for shard, features in finished:
                    writable = writable and self._store.write(shard, features)
                    if not writable:
                        held[shard] = features
            found = self._read()  # another process may have been faster
            if found is not None:
                self._store.remove()
                return found
            found = self._join(held)
            if found is None:  # a shard has gone: because the other process has just finished?
                found = self._read()
            if found is not None:
                return found
            missing = [s for s in self._store.missing(self._shards) if s not in held]
            writable = False  # the cache has lost what it took: this time memory keeps it
            add(-sum(map(len, missing)) * (1 + self._views))

    def _read(self) -> Features | None:
        """The split's file."""
        shape = (len(self._dataset.splits[self._split]), 1 + self._views, None)
        return read_features(self._path, self._key, shape)

    def _encoded(
        self, encode: Encode, shards: Sequence[Shard], add: Callable[[int], None]
    ) -> Generator[tuple[Shard, Features], None, None]:
        """Put blocks together to whole shards."""
        if not shards:
            return
        owner = {index: shard for shard in shards for index in range(shard.start, shard.stop)}
        begun: dict[Shard, list[Features]] = {}
        blocks = encode(self._clip, self._dataset, self._split, self._views, shards)
        with closing(blocks):
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
                f"{start} and on of {self._dataset.name}'s {self._split} split"
            )

    def _join(self, held: dict[Shard, Features]) -> Features | None:
        """Write the split's file from its shards; None where one of them has gone.

        Where the file cannot be written, or not be read again, the features stay in memory.
        """
        try:
            shape = (
                len(self._dataset.splits[self._split]),
                *self._part(self._shards[0], held).shape[1:],
            )
            parts = (self._part(shard, held) for shard in self._shards)
            if write_parts(self._path, self._key, shape, parts):
                found = self._read()
                if found is not None:
                    self._store.remove()
                    return found
            whole = np.empty(shape, dtype=np.float32)
            for shard in self._shards:
                whole[shard.start : shard.stop] = self._part(shard, held)
                held.pop(shard, None)  # never the whole twice
        except _ShardGoneError:
            return None
        whole.flags.writeable = False
        return whole

    def _part(self, shard: Shard, held: dict[Shard, Features]) -> Features:
        found = held[shard] if shard in held else self._store.read(shard)
        if found is None:
            raise _ShardGoneError
        return found
