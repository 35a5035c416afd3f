"""A dataset of several shards and an encoder in front of it, also as a process that can be killed.

python -m tests.ship.streamed CACHE SECONDS_PER_BATCH extracts it and prints a hash of the features.
"""

import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ship.datasets import Picture, PictureDataset, Split
from ship.features import extract_features
from ship.subsets import FeatureSet
from tests.ship.features.encoders import FakeEncoder

VIEWS = 3
SHARD = 128  # pictures, at that many views
SIZES = {"train": 2 * SHARD + 45, "val": 3, "test": 5}


def preprocess(image: Image.Image) -> Tensor:
    """Pixels as they are, 0 .. 1."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)


@dataclass
class SlowEncoder(FakeEncoder):
    """Features depend on the batch a little, as float arithmetic does."""

    name: str = "slow"
    fingerprint: str = "s0"
    preprocess: Callable[[Image.Image], Tensor] = preprocess
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    seconds: float = 0.0

    def encode_images(self, pictures: Tensor, /) -> Tensor:
        """(n, 3, 8, 8) -> (n, 192)."""
        time.sleep(self.seconds)
        super().encode_images(pictures)
        return pictures.flatten(1) + 1e-6 * pictures.mean()


def streamed_dataset(folder: Path | None = None) -> PictureDataset:
    """Noise of 8 x 8 pixels: three shards of training pictures, a few others.

    Args:
        folder: where the pictures are written; None: they stay in memory.
    """
    splits = {}
    for at, (split, n) in enumerate(SIZES.items()):
        rng = np.random.default_rng(at)
        pictures = [_picture(f"{split}{i}.png", rng, folder) for i in range(n)]
        splits[split] = Split(tuple(pictures), np.zeros(n, dtype=np.int64))
    held = {"name": "noise", "template": "a photo of a {}.", "fingerprint": "d0"}
    return PictureDataset(("a",), splits, **held)


def _picture(name: str, rng: np.random.Generator, folder: Path | None) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    if folder is None:
        return Picture(name, buffer.getvalue())
    (folder / name).write_bytes(buffer.getvalue())
    return Picture(name, folder / name)


def digest(features: FeatureSet) -> str:
    """Hash of all features, to the bit."""
    arrays = (features.train, features.val, features.test)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def interrupted(dataset: PictureDataset, cache: Path, after: int) -> None:
    """Extract until `after` views are done, as Ctrl-C would."""

    def stop(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(SlowEncoder(), dataset, VIEWS, cache, stop)


def shard_files(cache: Path) -> list[Path]:
    """The shards that are kept, in the order of their pictures."""
    return sorted(
        cache.glob("*.safetensors"), key=lambda file: int(file.name.split(".")[-2].split("-")[0])
    )


def main(cache: str, seconds: str) -> None:
    """Extract, and print the hash."""
    encoder = SlowEncoder(seconds=float(seconds))
    print(digest(extract_features(encoder, streamed_dataset(), VIEWS, Path(cache))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
