"""Encode the images of a split on this machine, with several threads.

A *view* is an image as CLIP sees it: the image itself without augmentation, or an augmented copy.
Each image has one unaugmented view and, in the training split, a configured number of augmented
ones (`augmentations`). augment_image makes these. They are random crops, but always the same ones.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from ship.clip import FrozenCLIP
from ship.datasets.base import (
    DatasetError,
    ImageDataset,
    ImageFile,
    UndecodableError,
    count_noun,
    shorten_list,
)

AUGMENTATION: Final = (
    "random resized crop of 0.5 to 1 of the area, ratio 3/4 to 4/3, bicubic; horizontal flip; "
    "seed 0; version 1"
)
"""Description of augment_image, which is part of the cache key. Increment the version in this text
if augment_image returns other pixels."""
_SEED: Final = 0
_ATTEMPTS: Final = 10
# Range of a crop's area, as a fraction of the image's, and of its aspect ratio.
_SCALE: Final = (0.5, 1.0)
_RATIO: Final = (3 / 4, 4 / 3)

Features = Float32[np.ndarray, "images views feature"]
Shard = range
"""Indices of consecutive images of a split that are encoded and cached as a unit."""
OnEncoded = Callable[[int], None]
"""Callback for progress, which gets the number of views that were encoded since its last call."""


@dataclass(frozen=True)
class Parallelism:
    """Number of threads and batch size of an extraction.

    Each thread decodes and encodes whole batches. On a CPU, batches of about 8 views on one core
    each are faster than large batches on all cores: activations stay in the cache, and no core
    waits for another. A GPU needs large batches. It encodes faster than a few cores can decode, so
    up to 32 threads decode for it.

    Attributes:
        threads: Number of threads.
        cores_each: Number of cores per thread.
        views_per_batch: Number of views in a batch.
        max_on_device: Maximum number of threads that encode at once, which bounds device memory.
            None means all threads.
    """

    threads: int
    cores_each: int
    views_per_batch: int
    max_on_device: int | None = None

    @classmethod
    def for_device(cls, device: torch.device, cores: int | None = None) -> "Parallelism":
        """Return the parallelism for a device.

        Args:
            device: Device of the backbone.
            cores: Number of cores to use. Defaults to all that this process may use.
        """
        if cores is None:
            has_affinity = hasattr(os, "sched_getaffinity")
            cores = (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()) or 1
        if device.type == "cpu":
            cores_each = math.ceil(cores / 16)  # at most 16 threads
            return cls(cores // cores_each, cores_each, 8)
        # 2: one batch can be copied to the device while another is computed
        return cls(min(cores, 32), 1, 64, max_on_device=2)

    def split_into_batches(self, images: range, augmentations: int) -> list[range]:
        """Cut consecutive images into batches.

        Args:
            images: Indices of the images.
            augmentations: Number of augmented views per image, in addition to the image itself.
        """
        return split_range(images, max(1, self.views_per_batch // (1 + augmentations)))


def split_range(images: range, size: int) -> list[range]:
    """Cut consecutive images into parts of `size` images. The last part may be smaller."""
    return [images[start : start + size] for start in range(0, len(images), size)]


def encode_split(
    clip: FrozenCLIP,
    dataset: ImageDataset,
    split: str,
    augmentations: int,
    shards: Sequence[Shard],
    on_encoded: OnEncoded,
) -> Generator[tuple[Shard, Features], None, None]:
    """Decode, augment and encode shards of a split on this machine.

    This is the default `encode` of extract_features.

    Args:
        clip: Backbone.
        dataset: Dataset with the split.
        split: Name of the split.
        augmentations: Number of augmented views per image, in addition to the image itself.
        shards: Shards to encode.
        on_encoded: Callback for progress.

    Yields:
        Each shard with its features.

    Raises:
        DatasetError: Images cannot be decoded. The message lists all such images of the split.
    """
    images = dataset.splits[split].images
    parallelism = Parallelism.for_device(clip.device)
    try:
        yield from encode_images(clip, images, augmentations, shards, parallelism, on_encoded)
    except UndecodableError as error:
        raise diagnose_split(dataset, split, error) from error


def encode_images(
    clip: FrozenCLIP,
    images: Sequence[ImageFile],
    augmentations: int,
    shards: Sequence[Shard],
    parallelism: Parallelism,
    on_encoded: OnEncoded = lambda n_views: None,
) -> Generator[tuple[Shard, Features], None, None]:
    """Decode, augment and encode shards of a split that is given as a list of images.

    No batch spans two shards, so that a shard's features do not depend on the other shards.

    Args:
        clip: Backbone, which is called from several threads at once.
        images: All images of the split.
        augmentations: Number of augmented views per image, in addition to the image itself.
        shards: Shards of the images to encode.
        parallelism: Number of threads and batch size.
        on_encoded: Callback for progress, called after each batch in the thread that iterates over
            the result.

    Yields:
        Each shard with its features, in the order of the shards.

    Raises:
        UndecodableError: An image cannot be decoded. The error names the first one.
    """
    batches = (
        (shard, batch)
        for shard in shards
        for batch in parallelism.split_into_batches(shard, augmentations)
    )
    pending: deque[tuple[Shard, Future[Features]]] = deque()
    parts: list[Features] = []
    gate = Semaphore(parallelism.max_on_device or parallelism.threads)
    cores_before = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        parallelism.threads,
        initializer=torch.set_num_threads,
        initargs=(parallelism.cores_each,),
    )
    try:
        while True:
            # a short queue bounds memory
            while len(pending) < 2 * parallelism.threads and (item := next(batches, None)):
                shard, batch = item
                future = pool.submit(_encode_batch, clip, images, batch, augmentations, gate)
                pending.append((shard, future))
            if not pending:
                return
            shard, future = pending.popleft()
            parts.append(future.result())
            on_encoded(len(parts[-1]) * (1 + augmentations))
            if sum(map(len, parts)) == len(shard):
                yield shard, np.concatenate(parts)
                parts.clear()
    finally:
        # on Ctrl-C, too: queued batches are canceled, and only running ones are waited for
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores_before)


def diagnose_split(dataset: ImageDataset, split: str, error: UndecodableError) -> DatasetError:
    """Decode a whole split, and return an error that lists all images that cannot be decoded.

    The user can then fix all of them at once.

    Args:
        dataset: Dataset with the split.
        split: Name of the split.
        error: Error of one of the images. Only this image is listed if all can be decoded now.
    """

    def find_fault(image: ImageFile) -> str:
        try:
            image.open()
        except UndecodableError as fault:
            return str(fault)
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        faults = [*filter(None, pool.map(find_fault, dataset.splits[split].images))]
    faults = faults or [str(error)]
    images = count_noun(faults, f"image of {split}")
    text = f"{images} cannot be decoded: {shorten_list(faults)}"
    return DatasetError(f"dataset {dataset.name}: {text}")


def _encode_batch(
    clip: FrozenCLIP,
    images: Sequence[ImageFile],
    batch: range,
    augmentations: int,
    gate: Semaphore,
) -> Features:
    """Decode, augment and encode the images of a batch.

    Args:
        clip: Backbone.
        images: All images of the split.
        batch: Indices of the images to encode.
        augmentations: Number of augmented views per image, in addition to the image itself.
        gate: Semaphore that limits how many threads encode at once.
    """
    originals, augmented = [], []
    for index in batch:
        image = images[index].open()
        original = clip.preprocess(image)
        originals.append(original)
        size = (original.shape[1], original.shape[2])
        augmented += [
            augment_image(image, size, index, view) for view in range(1, augmentations + 1)
        ]
    pixels = torch.stack(originals).unsqueeze(1)  # (images, 1, 3, height, width)
    if augmentations:
        crops = torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (clip.mean, clip.std))
        crops = crops.sub_(mean).div_(std).reshape(len(batch), augmentations, *pixels.shape[2:])
        pixels = torch.cat([pixels, crops], dim=1)  # (images, views, 3, height, width)
    inputs = pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with gate:
        encoded = clip.encode_images(inputs).cpu().numpy()
    return encoded.reshape(len(batch), 1 + augmentations, -1)


def augment_image(
    image: Image.Image, size: tuple[int, int], index: int, view: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return an augmented view of a training image, randomly cropped and flipped as in SHIP's code.

    The result depends only on the arguments.

    Args:
        image: The decoded image.
        size: Height and width of the result.
        index: Index of the image in the training split.
        view: Number of the view, from 1.
    """
    # 23 uniform numbers in [0, 1): 22 for the crop box, one for the flip. They are computed from
    # PCG64's raw output, because numpy guarantees that this stream never changes.
    raw = np.random.PCG64([_SEED, index, view]).random_raw(2 * _ATTEMPTS + 3)
    draws = (raw >> np.uint64(11)) * 2.0**-53
    crop = image.crop(draw_crop_box(image.width, image.height, draws[:-1]))
    pixels = np.asarray(crop.resize(size[::-1], Image.Resampling.BICUBIC))
    return pixels[:, ::-1] if draws[-1] < 0.5 else pixels


def draw_crop_box(
    width: int, height: int, draws: Float64[np.ndarray, " draws"]
) -> tuple[int, int, int, int]:
    """Return the box of a random crop, by the rule of torchvision's RandomResizedCrop.

    The area is uniform between 0.5 and 1 of the image's area. The aspect ratio is log-uniform
    between 3/4 and 4/3. If none of ten random boxes fits into the image, the result is the largest
    central box with an allowed ratio.

    Args:
        width: Width of the image.
        height: Height of the image.
        draws: 22 uniform numbers in [0, 1): ten pairs of area and ratio, then left and top.

    Returns:
        Left, top, right and bottom of the box.
    """
    for attempt in range(_ATTEMPTS):
        area = width * height * (_SCALE[0] + draws[2 * attempt] * (_SCALE[1] - _SCALE[0]))
        log_ratio = math.log(_RATIO[0])
        log_ratio += draws[2 * attempt + 1] * (math.log(_RATIO[1]) - log_ratio)
        w = round(math.sqrt(area * math.exp(log_ratio)))
        h = round(math.sqrt(area / math.exp(log_ratio)))
        if 0 < w <= width and 0 < h <= height:
            left = int(draws[-2] * (width - w + 1))
            top = int(draws[-1] * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * _RATIO[1])))
    h = min(height, max(1, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
