"""Image features of whole datasets, extracted once and kept.

Answers for: decoding and encoding in shards that survive a kill, the cache on disk, and augmented
views.
"""

from ship.features.encode import (
    Block,
    ImageEncoder,
    Layout,
    Shard,
    UndecodableError,
    encode_pictures,
    encode_split,
    undecodable,
)
from ship.features.extraction_time import extraction_seconds
from ship.features.feature_set import extract_features
from ship.features.split_extraction import Encode

__all__ = [
    "Block",
    "Encode",
    "ImageEncoder",
    "Layout",
    "Shard",
    "UndecodableError",
    "encode_pictures",
    "encode_split",
    "extract_features",
    "extraction_seconds",
    "undecodable",
]
