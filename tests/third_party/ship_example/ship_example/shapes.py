"""A dataset of squares that are drawn when it is loaded, so it needs no files."""

import io

import numpy as np
from PIL import Image

from ship.datasets import SPLITS, DatasetScan, ImageFile, Split

COLORS = ("red", "green", "blue", "orange", "black", "gray", "pink", "purple")


class Shapes:
    """Squares in eight colors, with random sizes and positions."""

    template = "a drawing of a {} square."

    def scan(self, name, data_root) -> DatasetScan:
        """Return class names, and six images per class in each split."""
        rng = np.random.default_rng(0)
        labels = np.arange(len(COLORS)).repeat(6)
        splits = {}
        for split in SPLITS:
            images = tuple(
                ImageFile(f"{split}/{i}.png", draw_square(COLORS[label], rng))
                for i, label in enumerate(labels)
            )
            splits[split] = Split(images, labels)
        return DatasetScan(COLORS, splits)


def draw_square(color: str, rng: np.random.Generator) -> bytes:
    """Return a PNG file of a square."""
    left, top, side = rng.integers(10, 32, 3).tolist()
    image = Image.new("RGB", (64, 64), "white")
    image.paste(color, (left, top, left + side, top + side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
