"""A small sound dataset on disk for every layout, which tests load or damage."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from tests.case_files import load_cases
from tests.ship.datasets.conftest import save_image

AIRCRAFT = ("A300B4", "Café 400", "Yak-42")
WNIDS = {"n01440764": "tench", "n01443537": "café", "n02119789": "kit_fox"}


def coop_tree(root: Path) -> None:
    """caltech101: "sea horse" and "café", 3/1/2 images each."""
    folder = root / "caltech-101"
    document: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(["sea_horse", "café"]):
        for split, n in {"train": 3, "val": 1, "test": 2}.items():
            for i in range(n):
                path = f"{name}/{split}{i}.jpg"
                save_image(folder / "101_ObjectCategories" / path, i)
                document[split].append([path, label, name])
    (folder / "split_zhou_Caltech101.json").write_text(json.dumps(document), encoding="utf-8")


def folder_tree(root: Path) -> None:
    """image_folder:pets: "café" and "dog", 4 images each."""
    for name in ("café", "dog"):
        for i in range(4):
            save_image(root / "pets" / name / f"{i}.jpg", i)


def aircraft_tree(root: Path, below: str = "fgvc_aircraft") -> None:
    """fgvc_aircraft: three variants, 2/1/1 images each."""
    folder = root / below
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("\n".join(AIRCRAFT) + "\n", encoding="utf-8")
    for s, (split, n) in enumerate({"train": 2, "val": 1, "test": 1}.items()):
        lines = []
        for v, variant in enumerate(AIRCRAFT):
            for i in range(n):
                image = f"{s}{v}{i}".zfill(7)
                save_image(folder / "images" / f"{image}.jpg", i)
                lines.append(f"{image} {variant}")
        text = "\n".join(lines) + "\n"
        (folder / f"images_variant_{split}.txt").write_text(text, encoding="utf-8")


def class_names(folder: Path, names: Mapping[str, str] = WNIDS) -> None:
    """Write classnames.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{wnid} {name}\n" for wnid, name in names.items())
    (folder / "classnames.txt").write_text(text, encoding="utf-8")


def imagenet_tree(root: Path) -> None:
    """imagenet: three classes, 6 train and 2 val images each."""
    class_names(root / "imagenet")
    for wnid in WNIDS:
        for part, numbers in {"train": range(6), "val": range(2)}.items():
            for i in numbers:
                name = f"{wnid}_{i}.JPEG"
                path = root / "imagenet/images" / part / wnid / name
                save_image(path, i if part == "train" else 10 + i)


def target_tree(folder: str, images: str, classes: Sequence[str]) -> Callable[[Path], None]:
    """Write a variant of ImageNet with 2 images per class and an unrelated file."""

    def make(root: Path) -> None:
        class_names(root / folder)
        for name in classes:
            for i in range(2):
                save_image(root / folder / images / name / f"{i}.jpg", i)
        (root / folder / images / "README.txt").write_text("x")

    return make


@dataclass
class Mats:
    """Content of res101.mat and att_splits.mat; labels and locs are 1-based."""

    image_files: list[str]
    labels: Any
    names: list[str] | None
    trainval_loc: Any
    test_seen_loc: Any
    test_unseen_loc: Any

    def save(self, folder: Path) -> None:
        """Write both files as MATLAB does: columns, and cells of texts."""
        folder.mkdir(parents=True, exist_ok=True)
        images = {"image_files": cells(self.image_files), "labels": column(self.labels)}
        savemat(folder / "res101.mat", {"features": np.zeros((4, 2)), **images})
        locs = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
        splits = {name: column(getattr(self, name)) for name in locs}
        if self.names is not None:
            splits["allclasses_names"] = cells(self.names)
        splits["att"] = np.zeros((4, 2))
        savemat(folder / "att_splits.mat", splits, do_compression=True)


def column(values: Any) -> Any:
    """Return a vector as MATLAB stores it; other values are unchanged."""
    return np.array(values, dtype=float)[:, None] if isinstance(values, list) else values


def cells(texts: list[str]) -> np.ndarray:
    """Return a cell array of texts."""
    result = np.empty((len(texts), 1), dtype=object)
    result[:, 0] = texts
    return result


def mats(names: list[str] | None, folders: Sequence[str], prefix: str) -> Mats:
    """Three classes: 1 and 3 seen (4 trainval, 1 test images each), 2 unseen (2 images)."""
    files, labels = [], []
    locs: dict[str, list[int]] = {"trainval": [], "seen": [], "unseen": []}
    seen = [*["trainval"] * 4, "seen"]
    for label, kinds in {1: seen, 2: ["unseen"] * 2, 3: seen}.items():
        for i, kind in enumerate(kinds):
            files.append(f"{prefix}{folders[label - 1]}image_{label}{i}.jpg")
            labels.append(label)
            locs[kind].append(len(files))
    return Mats(files, labels, names, locs["trainval"], locs["seen"], locs["unseen"])


XLSA: dict[str, Any] = load_cases(__file__, "xlsa.yaml")


def xlsa_tree(name: str) -> Callable[[Path], None]:
    """One of the xlsa17 layouts."""
    dataset, images, names, folders, prefix = XLSA[name]

    def make(root: Path) -> None:
        result = mats(names, folders, prefix)
        result.save(root / "xlsa17/data" / dataset)
        for i, path in enumerate(result.image_files):
            save_image(root / images / path.removeprefix(prefix), i)
        if names is None:
            flowers = json.dumps({"1": "rose", "2": "café", "3": "lily"})
            (root / "oxford_flowers/cat_to_name.json").write_text(flowers, encoding="utf-8")

    return make


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "caltech101": coop_tree,
    "image_folder:pets": folder_tree,
    "fgvc_aircraft": aircraft_tree,
    "imagenet": imagenet_tree,
    "imagenetv2": target_tree("imagenetv2", "imagenetv2-matched-frequency-format-val", "012"),
    "imagenet_sketch": target_tree("imagenet-sketch", "images", list(WNIDS)),
    "imagenet_a": target_tree("imagenet-adversarial", "imagenet-a", list(WNIDS)[1:]),
    "imagenet_r": target_tree("imagenet-rendition", "imagenet-r", list(WNIDS)[:2]),
    **{name: xlsa_tree(name) for name in XLSA},
}
"""A builder by dataset name: called with a data root."""
