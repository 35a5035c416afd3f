"""Image features of whole datasets, extracted once and cached on disk.

Images are decoded, augmented and encoded in shards, ranges of consecutive images. An interrupted
extraction resumes after its last complete shard.
"""

from ship.features.encode import (
    Done,
    Features,
    Parallelism,
    Shard,
    encode_images,
    encode_split,
    make_decoding_error,
)
from ship.features.extract import Encode, count_missing, extract_features

__all__ = [
    "Done",
    "Encode",
    "Features",
    "Parallelism",
    "Shard",
    "count_missing",
    "encode_images",
    "encode_split",
    "extract_features",
    "make_decoding_error",
]  # fmt: skip
