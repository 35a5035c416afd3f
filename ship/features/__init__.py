"""Image features of whole datasets, extracted once and kept.

Answers for: decoding and encoding in shards that survive a kill, the cache on disk, and augmented
views.
"""

from ship.features.encode import (
    Done,
    Features,
    Layout,
    Shard,
    encode_pictures,
    encode_split,
    undecodable,
)
from ship.features.extract import Encode, count_missing, extract_features

__all__ = [
    "Done", "Encode", "Features", "Layout", "Shard", "count_missing", "encode_pictures",
    "encode_split", "extract_features", "undecodable",
]  # fmt: skip
