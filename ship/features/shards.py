"""Parts of a split that are encoded and kept one by one, so that what was interrupted goes on."""

import glob
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ship.features.cache import (
    Features,
    cache_key,
    read_features,
    remove_features,
    write_features,
)

_VIEWS: Final = 512
"""Of a shard. A CPU with two cores takes about a minute for them with ViT-B/16."""
_BATCH: Final = 64
"""Views in the largest batch that an encoder makes; a shard is a whole number of such batches."""
_STALE_S: Final = 24 * 3600.0
"""No write takes as long: a temporary file of this age was left by a process that was killed."""


@dataclass(frozen=True)
class Shard:
    """Pictures start, ..., stop - 1 of a split."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def shards_of(pictures: int, views: int) -> list[Shard]:
    """A split cut into shards of equal size, but for the last one.

    The cuts depend on nothing else: whoever goes on with a split finds the same ones.

    Args:
        views: augmented views of each picture, beside the picture itself.
    """
    size = _VIEWS // _BATCH * max(1, _BATCH // (1 + views))
    return [Shard(start, min(start + size, pictures)) for start in range(0, pictures, size)]


@dataclass(frozen=True)
class ShardStore:
    """The finished shards of a split, in files of their own beside the split's file.

    path, key: of the split's file; see ship.features.cache.
    """

    path: Path
    key: str

    def read(self, shard: Shard) -> Features | None:
        """A shard's features; None where they are not there, or not sound: a warning names them."""
        return read_features(self._file(shard), self._key(shard), (len(shard), None, None))

    def write(self, shard: Shard, features: Features) -> bool:
        """Keep a shard; a folder that cannot be written gives a warning and False."""
        # encoders wait for whoever waits for the disk; a kill does no harm to a file unsynced
        return write_features(self._file(shard), self._key(shard), features, sync=False)

    def missing(self, shards: Sequence[Shard]) -> list[Shard]:
        """Those that are not there, or not sound."""
        return [shard for shard in shards if self.read(shard) is None]

    def remove(self) -> None:
        """Remove every shard, and what killed processes left half-written.

        A process that extracts the same split at this moment finds the split's file instead.
        """
        stem = glob.escape(self.path.stem)
        with suppress(OSError):
            for file in self.path.parent.glob(f"{stem}.*-*.*"):
                remove_features(file)
            for file in self.path.parent.glob(f".{stem}.*.tmp"):
                if time.time() - file.stat().st_mtime > _STALE_S:
                    file.unlink(missing_ok=True)

    def _file(self, shard: Shard) -> Path:
        return self.path.with_name(f"{self.path.stem}.{shard.start}-{shard.stop}.npy")

    def _key(self, shard: Shard) -> str:
        return cache_key({"split": self.key, "start": shard.start, "stop": shard.stop})
