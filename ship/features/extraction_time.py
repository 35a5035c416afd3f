"""How long it would take to extract what the cache lacks, from a sample of its pictures."""

import time
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from ship.datasets.base import SPLITS, Picture, PictureDataset
from ship.features.encode import ImageEncoder, Layout, Shard, encode_pictures
from ship.features.feature_set import extractions

SAMPLE_SECONDS = 3.0
MOST_PICTURES = 512


def extraction_seconds(
    clip: ImageEncoder,
    dataset: PictureDataset,
    views: int,
    cache_dir: Path,
    splits: Collection[str] = SPLITS,
    budget: float = SAMPLE_SECONDS,
) -> float:
    """Seconds that extract_features would take with the same arguments; nothing is written.

    On a CPU they are the processor's, shared out to its threads: others may use the machine now.

    Args:
        clip: encodes the pictures, on the device that it is on.
        views: augmented views of each training picture, beside the picture itself.
        cache_dir: where features are kept.
        splits: those that are wanted, of SPLITS.
        budget: seconds to spend on a sample, with augmented views and without.

    Raises:
        UndecodableError: a picture of the sample cannot be decoded.
    """
    pace: dict[int, float] = {}  # by the number of views
    seconds = 0.0
    for work in extractions(clip, dataset, views, cache_dir, splits):
        if missing := (work.total - work.done) // (1 + work.views):
            if work.views not in pace:
                pictures = dataset.splits[work.split].pictures
                pace[work.views] = _seconds_a_picture(clip, pictures, work.views, budget)
            seconds += missing * pace[work.views]
    return seconds


def _seconds_a_picture(
    clip: ImageEncoder, pictures: Sequence[Picture], views: int, budget: float
) -> float:
    """Of pictures spread over the whole split, as neighbours are often of one class and size."""
    layout = Layout.for_device(clip.device)
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), MOST_PICTURES)).astype(int)
    sample = [pictures[place] for place in np.random.default_rng(0).permutation(chosen)]
    blocks = encode_pictures(clip, sample, views, [Shard(0, len(sample))], layout)
    cores = layout.threads * layout.cores_each

    def clock() -> float:
        return time.process_time() / cores if clip.device.type == "cpu" else time.perf_counter()

    started = clock()
    began, warm, done = started, 0, 0
    with closing(blocks):
        for number, (_, features) in enumerate(blocks):
            now = clock()
            done += len(features)
            if number < layout.threads:  # each thread's first batch warms up
                began, warm = now, done
            if now - started > budget:
                break
    if done > warm:
        return (now - began) / (done - warm)
    return (now - started) / done
