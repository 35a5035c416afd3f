"""Images of noise, and data roots with one small dataset."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SPLIT_FILE = "split_zhou_Caltech101.json"


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> None:
    """Write an image of colored noise, which depends on seed, folder and file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = zlib.crc32("/".join(path.parts[-2:]).encode())
    pixels = np.random.default_rng([seed, place]).integers(
        0, 256, (size[1], size[0], 3), dtype=np.uint8
    )
    Image.fromarray(pixels).save(path)


@pytest.fixture
def coop_root(tmp_path: Path) -> Path:
    """A data root with caltech-101: classes "sea horse" and "café", 3/1/2 images each."""
    from tests.ship.datasets.trees import coop_tree

    coop_tree(tmp_path)
    return tmp_path


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """A data root with pets/: 10 images of "dog", 3 of "sea_lion"."""
    for name, n in {"dog": 10, "sea_lion": 3}.items():
        for i in range(n):
            save_image(tmp_path / "pets" / name / f"{i}.png", seed=i)
    return tmp_path
