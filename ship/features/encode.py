"""Pictures to features: threads that decode, augment and encode batches of one split."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from ship.architectures import ImagePrecision
from ship.datasets.base import DatasetError, OversizeError, Picture, PictureDataset, some
from ship.features.views import augmented_view

EXTRACTION_VERSION: Final = 1
"""Raised by hand whenever extraction gives other numbers for the same pictures and weights."""


@runtime_checkable
class ImageEncoder(Protocol):
    """The part of FrozenCLIP that extraction needs; encode_images must be thread-safe.

    Attributes:
        image_precision: of encode_images; part of preprocess_id.
    """

    image_precision: ImagePrecision

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def fingerprint(self) -> str:
        """Hash of architecture and weights."""

    @property
    def preprocess_id(self) -> str:
        """Describes preprocess, in full."""

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """Test-time transform: RGB picture -> (3, height, width)."""

    @property
    def mean(self) -> Sequence[float]:
        """Per channel, as preprocess subtracts it."""

    @property
    def std(self) -> Sequence[float]:
        """Per channel, as preprocess divides by it."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def encode_images(self, pictures: Tensor, /) -> Tensor:
        """(n, 3, height, width) -> unit-norm (n, feature_dim)."""


@dataclass(frozen=True)
class Layout:
    """How extraction is spread: threads that each decode and encode batches of their own.

    On a CPU, batches of about 8 views with one core each beat big batches that all cores share:
    activations stay in the cache, and no core waits for another. A GPU wants big batches, and more
    pictures a second than a few cores decode.

    at_device: threads that may encode at once; None: all. Each batch in work takes memory there.
    """

    threads: int
    cores_each: int
    views_per_batch: int
    at_device: int | None = None

    @classmethod
    def for_device(cls, device: torch.device, cores: int | None = None) -> "Layout":
        """The layout for a device and some cores; None: all that this process may use."""
        if cores is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
            cores = cores or os.cpu_count() or 1
        if device.type == "cpu":
            threads = min(cores, 16)
            return cls(threads, cores // threads, 8)
        return cls(min(cores, 32), 1, 64, at_device=2)  # one computes while another's input arrives


Shard = range
"""Pictures of a split that follow each other, and are encoded and kept as one."""

Block = tuple[int, Float32[np.ndarray, "pictures views feature"]]
"""Features of pictures that follow each other in a split: the first one's index, and theirs all."""


class UndecodableError(Exception):
    """A picture that Pillow cannot decode; str() is its name."""


def encode_split(
    clip: ImageEncoder, dataset: PictureDataset, split: str, views: int, shards: Sequence[Shard]
) -> Generator[Block, None, None]:
    """Decode, augment and encode some shards of one split, on this machine.

    Args:
        clip: encodes batches, from several threads at once.
        dataset: holds the split.
        split: of SPLITS.
        views: augmented views of each picture, beside the picture itself.
        shards: which of its pictures.

    Yields:
        Features of the next pictures, in the order of the shards.
    Raises:
        DatasetError: pictures that cannot be decoded, all of the split's by name.
    """
    pictures = dataset.splits[split].pictures
    layout = Layout.for_device(clip.device)
    try:
        yield from encode_pictures(clip, pictures, views, shards, layout)
    except UndecodableError as why:
        raise undecodable(dataset, split, str(why)) from why


def encode_pictures(
    clip: ImageEncoder,
    pictures: Sequence[Picture],
    views: int,
    shards: Sequence[Shard],
    layout: Layout,
) -> Generator[Block, None, None]:
    """Decode, augment and encode some shards of pictures, which may be of any split.

    Batches start anew with each shard: its features do not depend on which others are encoded.

    Args:
        clip: encodes batches, from several threads at once.
        pictures: all of the split's.
        views: augmented views of each picture, beside the picture itself.
        shards: which of the pictures.
        layout: threads, cores and views in a batch.

    Raises:
        UndecodableError: the first picture that cannot be decoded.
    """
    per_batch = max(1, layout.views_per_batch // (1 + views))
    batches = (
        (start, min(start + per_batch, shard.stop))
        for shard in shards
        for start in range(shard.start, shard.stop, per_batch)
    )
    pending: deque[tuple[int, Future[np.ndarray]]] = deque()
    gate = Semaphore(layout.at_device or layout.threads)
    with _threads(layout) as pool:
        while True:
            # a short queue: Ctrl-C waits for the batches at work alone, and memory stays bounded
            while len(pending) < 2 * layout.threads and (batch := next(batches, None)) is not None:
                start, stop = batch
                work = pool.submit(_encode, clip, pictures[start:stop], start, views, gate)
                pending.append((start, work))
            if not pending:
                return
            start, work = pending.popleft()
            yield start, work.result()


def undecodable(dataset: PictureDataset, split: str, found: str) -> DatasetError:
    """The error for a split of which one picture, `found`, cannot be decoded.

    The rest of the split is decoded too, so that the user can mend all at once.

    Args:
        dataset: holds the split.
        split: of SPLITS.
        found: the picture's name.
    """

    def fault(picture: Picture) -> str | None:
        try:
            _open(picture)
        except UndecodableError as why:
            name = str(picture.source if isinstance(picture.source, Path) else picture.name)
            cause = why.__cause__
            return f"{name} ({cause})" if isinstance(cause, OversizeError) else name
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        names = pool.map(fault, dataset.splits[split].pictures)
        bad = [name for name in names if name is not None] or [found]
    return DatasetError(
        f"dataset {dataset.name}: {len(bad)} pictures of {split} cannot be decoded: {some(bad)}"
    )


@contextmanager
def _threads(layout: Layout) -> Iterator[ThreadPoolExecutor]:
    cores_before = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        layout.threads, initializer=torch.set_num_threads, initargs=(layout.cores_each,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores_before)


def _encode(
    clip: ImageEncoder, batch: Sequence[Picture], start: int, views: int, gate: Semaphore
) -> Float32[np.ndarray, "pictures views feature"]:
    plain, augmented = [], []
    for index, picture in enumerate(batch, start):
        image = _open(picture)
        plain.append(clip.preprocess(image))
        size = (plain[-1].shape[1], plain[-1].shape[2])
        augmented += [augmented_view(image, size, index, view) for view in range(1, views + 1)]
    pixels = torch.stack(plain).unsqueeze(1)  # (pictures, 1, 3, height, width)
    if views:
        crops = torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (clip.mean, clip.std))
        crops = crops.sub_(mean).div_(std).reshape(len(batch), views, *pixels.shape[2:])
        pixels = torch.cat([pixels, crops], dim=1)
    inputs = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with gate, torch.inference_mode():
        encoded = clip.encode_images(inputs).float().cpu().numpy()
    features: Float32[np.ndarray, "pictures views feature"]
    features = encoded.reshape(len(batch), 1 + views, -1)
    return features


def _open(picture: Picture) -> Image.Image:
    try:
        return picture.open()
    except Exception as why:  # Pillow raises nearly anything for broken bytes
        raise UndecodableError(picture.name) from why
