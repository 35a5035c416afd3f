"""What shards cost an extraction, what bf16 would save: `python -m tests.bench.bench_extraction`.

Ratios of two ways timed in turn in one process. Shards: the same split with and without them. bf16:
the image tower in bfloat16, which extraction does not offer: features stay float32.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import ship.features.shards
from ship.clip.frozen_clip import FrozenCLIP
from ship.datasets import PictureDataset, load_dataset
from ship.features.feature_set import extract_features
from tests.bench.timing import Comparison, compare

VIEWS = 2
PICTURES = 864
BATCH = 8  # as on a CPU


def dataset() -> PictureDataset:
    """The packaged training pictures, six shards of them, and no others."""
    whole = load_dataset("emoji")
    train = whole.splits["train"]
    kept = replace(train, pictures=train.pictures[:PICTURES], labels=train.labels[:PICTURES])
    return replace(whole, splits={**whole.splits, "train": kept})


def extraction(clip: FrozenCLIP, pictures: PictureDataset) -> Callable[[], object]:
    """Extracts the training split into an empty cache."""

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract_features(clip, pictures, VIEWS, Path(folder), splits=("train",))

    return work


def shards_against_whole(clip: FrozenCLIP, repeats: int) -> Comparison:
    """One pass and one write against shards; a ratio of 1 says that shards cost nothing."""
    work = extraction(clip, dataset())

    def whole() -> None:
        with patch.object(ship.features.shards, "_VIEWS", 10**6):
            work()

    return compare(f"extraction in shards, {PICTURES} pictures", whole, work, repeats)


def tower_in_bf16(clip: FrozenCLIP) -> Callable[[Tensor], Tensor]:
    """encode_images with the image tower's weights cast once."""
    visual = copy.deepcopy(clip._model.visual).to(torch.bfloat16)

    @torch.inference_mode()
    def encode(pictures: Tensor) -> Tensor:
        return F.normalize(visual(pictures.to(torch.bfloat16)).float(), dim=-1)

    return encode


def bf16(clip: FrozenCLIP, pictures: Tensor, repeats: int) -> tuple[Comparison, Tensor]:
    """fp32 against bf16 in batches, and 1 - cosine of each picture's two features."""
    encode = tower_in_bf16(clip)
    batches = [
        batch.contiguous(memory_format=torch.channels_last) for batch in pictures.split(BATCH)
    ]
    error = 1 - (clip.encode_images(pictures) * encode(pictures)).sum(dim=1)
    found = compare(
        f"image tower in bf16, {clip.name}, batches of {BATCH}",
        lambda: [clip.encode_images(batch) for batch in batches],
        lambda: [encode(batch) for batch in batches],
        repeats,
    )
    return found, error


def main() -> None:
    """Print both."""
    pocket = FrozenCLIP.load("pocket")
    rows = [shards_against_whole(pocket, repeats=7)]
    for clip, n, repeats in ((pocket, 64, 9), (large(), 32, 7)):
        kept = dataset().splits["train"].pictures[:n]
        pictures = torch.stack([clip.preprocess(picture.open()) for picture in kept])
        row, error = bf16(clip, pictures, repeats)
        rows.append(row)
        print(f"{row.name}: 1 - cosine {error.mean():.2e} mean, {error.max():.2e} worst")
    for row in rows:
        print(f"{row.name}: {row.plain_s:.2f} s, {row.fast_s:.2f} s, ratio {row.ratio:.3f}")


def large() -> FrozenCLIP:
    """ViT-B/16 with random weights."""
    return FrozenCLIP.load("ViT-B-16-quickgelu:random")


if __name__ == "__main__":
    main()
