"""Fake image encoders, and a dataset whose features have several shards.

Extraction can also run in a separate process:
python -m tests.ship.features.encoders CACHE SECONDS_PER_BATCH prints a hash of the features.
"""

import hashlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ship.architectures import ImagePrecision
from ship.clip import FrozenCLIP
from ship.datasets import ImageDataset, ImageFile, Split
from ship.features import extract_features
from ship.subsets import FeatureSet

SIZE = 8


def preprocess(image: Image.Image) -> Tensor:
    """Resize an image and normalize it with mean 0.5 and standard deviation 0.25."""
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1).sub(0.5).div(0.25)


@dataclass
class FakeEncoder(FrozenCLIP):
    """Encoder whose features are the four corner pixels. It counts the encoded images."""

    name: str = "fake"
    fingerprint: str = "f0"
    preprocess_id: str = "p0"
    image_precision: ImagePrecision = "fp32"
    preprocess: Callable[[Image.Image], Tensor] = preprocess
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.25, 0.25, 0.25)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    scale: float = 1.0
    encoded: int = 0
    _lock: Lock = field(default_factory=Lock)

    def encode_images(self, images: Tensor, /) -> Tensor:
        """Encode images of shape (n, 3, 8, 8) as features of shape (n, 12)."""
        with self._lock:
            self.encoded += len(images)
        return images[:, :, :: SIZE - 1, :: SIZE - 1].flatten(1) * self.scale


VIEWS = 3
SHARD = 128  # images per shard with this number of views
SIZES = {"train": 2 * SHARD + 45, "val": 3, "test": 5}


def scale_pixels(image: Image.Image) -> Tensor:
    """Return the pixels of an image as values between 0 and 1."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)


@dataclass
class SlowEncoder(FakeEncoder):
    """Encoder that waits per batch.

    A feature depends slightly on the other images of its batch, as in floating-point arithmetic.

    Attributes:
        seconds: Duration of a batch.
    """

    name: str = "slow"
    fingerprint: str = "s0"
    preprocess: Callable[[Image.Image], Tensor] = scale_pixels
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    seconds: float = 0.0

    def encode_images(self, images: Tensor, /) -> Tensor:
        """Encode images of shape (n, 3, 8, 8) as features of shape (n, 192)."""
        time.sleep(self.seconds)
        super().encode_images(images)
        return images.flatten(1) + 1e-6 * images.mean()


def make_sharded_dataset(folder: Path | None = None) -> ImageDataset:
    """Return a dataset of noise images of 8 x 8 pixels, with three shards of training images.

    Args:
        folder: Folder in which the images are written. By default they stay in memory.
    """
    splits = {}
    for seed, (split, n) in enumerate(SIZES.items()):
        rng = np.random.default_rng(seed)
        images = [_make_image(f"{split}{i}.png", rng, folder) for i in range(n)]
        splits[split] = Split(tuple(images), np.zeros(n, dtype=np.int64))
    fields = {"name": "noise", "template": "a photo of a {}.", "fingerprint": "d0"}
    return ImageDataset(("a",), splits, **fields)


def _make_image(name: str, rng: np.random.Generator, folder: Path | None) -> ImageFile:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    if folder is None:
        return ImageFile(name, buffer.getvalue())
    (folder / name).write_bytes(buffer.getvalue())
    return ImageFile(name, folder / name)


def hash_features(features: FeatureSet) -> str:
    """Return a hash of all bits of the features."""
    arrays = (features.train, features.val, features.test)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def interrupt_extraction(dataset: ImageDataset, cache: Path, after: int) -> None:
    """Extract features, and interrupt the extraction like Ctrl-C after a number of views."""

    def stop(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(SlowEncoder(), dataset, VIEWS, cache, stop)


def list_shards(cache: Path) -> list[Path]:
    """Return the cached shards in the order of their images."""
    return sorted(
        cache.glob("*.safetensors"), key=lambda file: int(file.name.split(".")[-2].split("-")[0])
    )


def main(cache: str, seconds: str) -> None:
    """Extract the features and print their hash."""
    encoder = SlowEncoder(seconds=float(seconds))
    print(
        hash_features(extract_features(encoder, make_sharded_dataset(), VIEWS, Path(cache))),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
