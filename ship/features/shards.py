"""Parts of a split that are encoded and kept one by one, so that what was interrupted goes on."""

from dataclasses import dataclass
from typing import Final

_VIEWS: Final = 512
"""Of a shard. A CPU with two cores takes about a minute for them with ViT-B/16."""
_BATCH: Final = 64
"""Views in the largest batch that an encoder makes; a shard is a whole number of such batches."""


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
