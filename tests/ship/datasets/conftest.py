"""Small datasets on disk, in CoOp's layout and as plain folders."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SPLIT_FILE = "split_zhou_Caltech101.json"

Document = dict[str, Any]


def save_picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> None:
    """Write a picture of coloured noise, another one for each seed, folder and file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = zlib.crc32("/".join(path.parts[-2:]).encode())
    pixels = np.random.default_rng([seed, place]).integers(
        0, 256, (size[1], size[0], 3), dtype=np.uint8
    )
    Image.fromarray(pixels).save(path)


@pytest.fixture
def coop_root(tmp_path: Path) -> Path:
    """A data root with caltech-101: classes "sea horse" and "café", 3/1/2 pictures each."""
    folder = tmp_path / "caltech-101"
    document: Document = {"train": [], "val": [], "test": []}
    seed = 0
    for label, name in enumerate(["sea_horse", "café"]):
        for split, n in {"train": 3, "val": 1, "test": 2}.items():
            for _ in range(n):
                path = f"{name}/{seed}.png"
                save_picture(folder / "101_ObjectCategories" / path, seed)
                document[split].append([path, label, name])
                seed += 1
    (folder / SPLIT_FILE).write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


@pytest.fixture
def edit_split(coop_root: Path) -> Callable[[Callable[[Document], Any]], None]:
    """Change the split file of coop_root; what the edit returns, if anything, replaces it."""

    def edit(change: Callable[[Document], Any]) -> None:
        path = coop_root / "caltech-101" / SPLIT_FILE
        document = json.loads(path.read_text(encoding="utf-8"))
        changed = change(document)
        path.write_text(json.dumps(document if changed is None else changed), encoding="utf-8")

    return edit


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """A data root with pets/: 10 pictures of "dog", 3 of "sea_lion"."""
    for name, n in {"dog": 10, "sea_lion": 3}.items():
        for i in range(n):
            save_picture(tmp_path / "pets" / name / f"{i}.png", seed=i)
    return tmp_path
