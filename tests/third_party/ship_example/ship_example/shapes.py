"""A dataset: squares, drawn when it is read, so that it needs no folder."""

import io

import numpy as np
from PIL import Image

from ship.datasets import SPLITS, DatasetScan, ImageFile, Split

COLORS = ("red", "green", "blue", "orange", "black", "gray", "pink", "purple")


class Shapes:
    """Squares of eight colors, each of a random size in a random place."""

    template = "a drawing of a {} square."

    def scan(self, name, data_root) -> DatasetScan:
        """Names, labels and images: six a class in each split."""
        rng = np.random.default_rng(0)
        labels = np.arange(len(COLORS)).repeat(6)
        splits = {}
        for split in SPLITS:
            images = tuple(
                ImageFile(f"{split}/{i}.png", drawn(COLORS[label], rng))
                for i, label in enumerate(labels)
            )
            splits[split] = Split(images, labels)
        return DatasetScan(COLORS, splits)


def drawn(color: str, rng: np.random.Generator) -> bytes:
    """A PNG file."""
    left, top, side = rng.integers(10, 32, 3).tolist()
    image = Image.new("RGB", (64, 64), "white")
    image.paste(color, (left, top, left + side, top + side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
