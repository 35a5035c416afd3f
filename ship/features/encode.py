"""Pictures to features: threads that decode, augment and encode batches of one split."""

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
    Picture,
    PictureDataset,
    UndecodableError,
    number,
    some,
)

AUGMENTATION: Final = (
    "random resized crop of 0.5 to 1 of the area, ratio 3/4 to 4/3, bicubic; horizontal flip; "
    "seed 0; version 1"
)
"""Names what augmented_view does; part of the feature cache's key. Raise the version with it."""
_SEED: Final = 0
_ATTEMPTS: Final = 10
_SCALE: Final = (0.5, 1.0)
_RATIO: Final = (3 / 4, 4 / 3)

Features = Float32[np.ndarray, "pictures views feature"]
Shard = range
"""Pictures of a split that follow each other, and are encoded and kept as one."""
Done = Callable[[int], None]
"""Called with the number of views in each batch that was encoded."""


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
            there = hasattr(os, "sched_getaffinity")
            cores = (len(os.sched_getaffinity(0)) if there else os.cpu_count()) or 1
        if device.type == "cpu":
            threads = min(cores, 16)
            return cls(threads, cores // threads, 8)
        return cls(min(cores, 32), 1, 64, at_device=2)  # one computes while another's input arrives

    def batches(self, pictures: range, views: int) -> list[range]:
        """Pictures that follow each other, cut into batches.

        Args:
            views: augmented views of each picture, beside the picture itself.
        """
        return cut(pictures, max(1, self.views_per_batch // (1 + views)))


def cut(pictures: range, size: int) -> list[range]:
    """Pictures that follow each other, in parts of equal size, but for the last one."""
    return [pictures[start : start + size] for start in range(0, len(pictures), size)]


def encode_split(
    clip: FrozenCLIP,
    dataset: PictureDataset,
    split: str,
    views: int,
    shards: Sequence[Shard],
    done: Done,
) -> Generator[tuple[Shard, Features], None, None]:
    """Decode, augment and encode some shards of one split, on this machine; an Encode.

    Raises:
        DatasetError: pictures that cannot be decoded, all of the split's by name.
    """
    pictures = dataset.splits[split].pictures
    layout = Layout.for_device(clip.device)
    try:
        yield from encode_pictures(clip, pictures, views, shards, layout, done)
    except UndecodableError as why:
        raise undecodable(dataset, split, why.picture) from why


def encode_pictures(
    clip: FrozenCLIP,
    pictures: Sequence[Picture],
    views: int,
    shards: Sequence[Shard],
    layout: Layout,
    done: Done = lambda views: None,
) -> Generator[tuple[Shard, Features], None, None]:
    """Decode, augment and encode some shards of pictures, which may be of any split.

    Batches start anew with each shard: its features do not depend on which others are encoded.

    Args:
        clip: encodes batches, from several threads at once.
        pictures: all of the split's.
        views: augmented views of each picture, beside the picture itself.
        shards: which of the pictures.
        layout: threads, cores and views in a batch.
        done: called from this thread.

    Yields:
        Each shard with its features, in the order of the shards.
    Raises:
        UndecodableError: the first picture that cannot be decoded.
    """
    batches = ((shard, batch) for shard in shards for batch in layout.batches(shard, views))
    pending: deque[tuple[Shard, Future[Features]]] = deque()
    parts: list[Features] = []
    gate = Semaphore(layout.at_device or layout.threads)
    cores_before = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        layout.threads, initializer=torch.set_num_threads, initargs=(layout.cores_each,)
    )
    try:
        while True:
            # a short queue: Ctrl-C waits for the batches at work alone, and memory stays bounded
            while len(pending) < 2 * layout.threads and (following := next(batches, None)):
                shard, batch = following
                work = pool.submit(_encode, clip, pictures, batch, views, gate)
                pending.append((shard, work))
            if not pending:
                return
            shard, work = pending.popleft()
            parts.append(work.result())
            done(len(parts[-1]) * (1 + views))
            if sum(map(len, parts)) == len(shard):
                yield shard, np.concatenate(parts)
                parts.clear()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores_before)


def undecodable(dataset: PictureDataset, split: str, found: str) -> DatasetError:
    """The error for a split of which one picture, `found`, cannot be decoded.

    The rest of the split is decoded too, so that the user can mend all at once.

    Args:
        dataset: holds the split.
        split: of SPLITS.
        found: the picture's name.
    """

    def fault(picture: Picture) -> str:
        try:
            picture.open()
        except UndecodableError as why:
            return str(why)
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bad = [*filter(None, pool.map(fault, dataset.splits[split].pictures))] or [found]
    pictures = number(bad, f"picture of {split}")
    return DatasetError(f"dataset {dataset.name}: {pictures} cannot be decoded: {some(bad)}")


def _encode(
    clip: FrozenCLIP, pictures: Sequence[Picture], batch: range, views: int, gate: Semaphore
) -> Features:
    plain, augmented = [], []
    for index in batch:
        image = pictures[index].open()
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
    with gate:
        encoded = clip.encode_images(inputs).cpu().numpy()
    return encoded.reshape(len(batch), 1 + views, -1)


def augmented_view(
    image: Image.Image, size: tuple[int, int], index: int, view: int
) -> UInt8[np.ndarray, "height width 3"]:
    """View `view` (1, 2, ...) of picture `index` of the training split.

    Random crop and random flip, as in the reference code. The same picture and view always give
    the same pixels, whatever else is extracted.

    Args:
        size: height and width of the result.
    """
    # 23 numbers in [0, 1) of raw PCG64 output, whose stream numpy never changes
    raw = np.random.PCG64([_SEED, index, view]).random_raw(2 * _ATTEMPTS + 3)
    draws = (raw >> np.uint64(11)) * 2.0**-53
    crop = image.crop(crop_box(image.width, image.height, draws[:-1]))
    pixels = np.asarray(crop.resize(size[::-1], Image.Resampling.BICUBIC))
    return pixels[:, ::-1] if draws[-1] < 0.5 else pixels


def crop_box(
    width: int, height: int, draws: Float64[np.ndarray, " draws"]
) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop rule for one picture.

    Area uniform in scale, aspect ratio log-uniform; after ten boxes that do not fit, the largest
    central box whose ratio is allowed.

    Args:
        draws: 22 uniform numbers in [0, 1): ten areas and ratios by turns, then left and top.
    Returns:
        (left, top, right, bottom).
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
