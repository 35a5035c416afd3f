"""How fast features are extracted: `python -m tests.bench.bench_features [DATASET]`.

Prints ratios beside times: on a shared machine only the ratios mean anything. CPU seconds (of all
threads) tell what the work costs when other processes slow the clock. DATASET other than emoji
needs SHIP_DATA_ROOT.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.datasets import PictureDataset, Split, check_dataset, load_dataset
from ship.features.feature_set import extract_features

VIEWS = 2
PICTURES = 96


def timed(label: str, work: Callable[[], object], units: int = 0) -> tuple[float, float]:
    """Run once; print and return (seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rate = f"  {units / wall:7.1f}/s  {units / cpu:7.1f}/CPU-s" if units else ""
    print(f"{label:52} {wall:8.3f} s  {cpu:8.3f} CPU-s{rate}", flush=True)
    return wall, cpu


def part(dataset: PictureDataset, n: int) -> PictureDataset:
    """The first n training pictures, and one picture of each other split."""
    sizes = {"train": n, "val": 1, "test": 1}
    splits = {
        name: Split(split.pictures[: sizes[name]], split.labels[: sizes[name]])
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def one_batch_at_a_time(
    clip: FrozenCLIP, pictures: torch.Tensor, memory_format: torch.memory_format
) -> None:
    """Batches of 64 with all cores on each: the plain way."""
    for batch in pictures.split(64):
        clip.encode_images(batch.contiguous(memory_format=memory_format))


def extraction(clip: FrozenCLIP, dataset: PictureDataset, n: int = PICTURES) -> None:
    """extract_features against the plain loop over n pictures that are decoded already."""
    few, views = part(dataset, n), n * (1 + VIEWS) + 2
    pictures = torch.stack([clip.preprocess(p.open()) for p in few.splits["train"].pictures])
    pictures = pictures.repeat(1 + VIEWS, 1, 1, 1)
    one_batch_at_a_time(clip, pictures[:64], torch.channels_last)  # warm up
    for _ in range(2 if n == PICTURES else 1):
        with tempfile.TemporaryDirectory() as folder:
            ours = timed(
                f"extract_features, {n} pictures with {VIEWS} views",
                lambda folder=folder: extract_features(clip, few, VIEWS, Path(folder)),
                views,
            )
        for name in ("channels_last", "contiguous_format"):
            memory_format = getattr(torch, name)
            plain = timed(
                f"encoder alone, batches of 64, {name}",
                lambda m=memory_format: one_batch_at_a_time(clip, pictures, m),
                len(pictures),
            )
            ratios = plain[0] / ours[0], plain[1] / ours[1]
            print(f"  extract_features is {ratios[0]:.2f}x (CPU {ratios[1]:.2f}x) as fast")


def main() -> None:
    """Benchmark one dataset."""
    name = sys.argv[1] if len(sys.argv) > 1 else "emoji"
    root = Path(os.environ["SHIP_DATA_ROOT"]) if "SHIP_DATA_ROOT" in os.environ else None
    print(f"{name}, pocket backbone, {torch.get_num_threads()} torch threads")
    timed("check_dataset", lambda: check_dataset(name, root))
    timed("load_dataset (hashes every picture)", lambda: load_dataset(name, root))
    dataset = load_dataset(name, root)
    pictures = dataset.splits["train"].pictures[:500]
    timed("decode 500 pictures, one thread", lambda: [p.open() for p in pictures], 500)
    extraction(FrozenCLIP.load("pocket"), dataset)


if __name__ == "__main__":
    main()
