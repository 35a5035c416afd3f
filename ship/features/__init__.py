"""Image features of whole datasets, extracted once and cached on disk.

Images are decoded, augmented and encoded in shards, ranges of consecutive images. An interrupted
extraction resumes after its last complete shard.
"""

from ship.features.encode import (
    Features,
    OnEncoded,
    Parallelism,
    Shard,
    diagnose_split,
    encode_images,
    encode_split,
)
from ship.features.extract import Encode, count_missing, extract_features

__all__ = [
    "Encode",
    "Features",
    "OnEncoded",
    "Parallelism",
    "Shard",
    "count_missing",
    "diagnose_split",
    "encode_images",
    "encode_split",
    "extract_features",
]  # fmt: skip
