"""A dataset: pictures of shapes, drawn when it is read, so that it needs no folder."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ship.datasets import SPLITS, Picture, Split, Survey

COLOURS = ("red", "green", "blue", "orange")
SHAPES = ("circle", "square")
COUNTS = {"train": 8, "val": 4, "test": 6}


class Shapes:
    """Eight classes, "red circle" to "orange square", in a random place and size each."""

    template = "a drawing of a {}."

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Names, labels and pictures."""
        names = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
        rng = np.random.default_rng(0)
        splits = {}
        for split in SPLITS:
            labels = np.repeat(np.arange(len(names), dtype=np.int64), COUNTS[split])
            pictures = tuple(
                Picture(f"{split}/{i}.png", _drawn(*names[label].split(), rng))
                for i, label in enumerate(labels)
            )
            splits[split] = Split(pictures, labels)
        return Survey(names, splits)


def _drawn(colour: str, shape: str, rng: np.random.Generator) -> bytes:
    """A PNG file."""
    image = Image.new("RGB", (64, 64), "white")
    size = int(rng.integers(20, 40))
    left, top = (int(x) for x in rng.integers(0, 64 - size, 2))
    draw = ImageDraw.Draw(image)
    place = (left, top, left + size, top + size)
    (draw.ellipse if shape == "circle" else draw.rectangle)(place, fill=colour)
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()
