"""CoOp's folder layout: pictures under one folder, labels and splits in a split_zhou_*.json."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ship.datasets.base import (
    SPLITS,
    DatasetError,
    Picture,
    PictureDataset,
    Split,
    content_fingerprint,
    picture_faults,
)
from ship.datasets.split_file import Entry, read_split_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CoOpDataset:
    """Where one dataset of CoOp's layout lies, and what its published split holds.

    folder, images: data_root/folder/images holds the pictures ("" for folder itself).
    split_file: in data_root/folder: {"train"|"val"|"test": [[path, label, class name], ...]}.
    counts: pictures in the published train, val and test split, and its number of classes.
    """

    folder: str
    images: str
    split_file: str
    counts: tuple[int, int, int]
    classes: int
    template: str = "a photo of a {}."

    def check(self, name: str, data_root: Path | None) -> None:
        """Read the split file and look at every picture's size.

        Raises:
            DatasetError: every fault at once.
        """
        self._read(name, data_root)

    def load(self, name: str, data_root: Path | None) -> PictureDataset:
        """Check, then hash every picture.

        Raises:
            DatasetError: every fault at once.
        """
        images, entries, class_names = self._read(name, data_root)
        splits = {
            split: Split(
                tuple(Picture(path, images / path) for path, _, _ in rows),
                np.array([label for _, label, _ in rows], dtype=np.int64),
            )
            for split, rows in entries.items()
        }
        _report_other_counts(name, self, entries, len(class_names))
        fingerprint = content_fingerprint(class_names, self.template, splits)
        return PictureDataset(name, class_names, self.template, splits, fingerprint)

    def _read(
        self, name: str, data_root: Path | None
    ) -> tuple[Path, dict[str, list[Entry]], tuple[str, ...]]:
        if data_root is None:
            raise DatasetError(
                f"dataset {name} needs a data root: the folder that holds {self.folder}/"
            )
        images = data_root / self.folder / self.images
        split_path = data_root / self.folder / self.split_file
        faults = _missing(name, data_root, images, split_path)
        if split_path.is_file():
            entries, class_names, found = read_split_file(split_path)
            faults += [f"{split_path}: {fault}" for fault in found]
            if images.is_dir():
                paths = [path for rows in entries.values() for path, _, _ in rows]
                faults += [f"{images}: {fault}" for fault in picture_faults(images, paths)]
        if faults:
            raise DatasetError(faults)
        return images, entries, class_names


COOP_DATASETS: Final[Mapping[str, CoOpDataset]] = {
    "caltech101": CoOpDataset(
        folder="caltech-101",
        images="101_ObjectCategories",
        split_file="split_zhou_Caltech101.json",
        counts=(4128, 1649, 2465),
        classes=100,
    ),
    "oxford_pets": CoOpDataset(
        folder="oxford_pets",
        images="images",
        split_file="split_zhou_OxfordPets.json",
        counts=(2944, 736, 3669),
        classes=37,
        template="a photo of a {}, a type of pet.",
    ),
    "stanford_cars": CoOpDataset(
        folder="stanford_cars",
        images="",
        split_file="split_zhou_StanfordCars.json",
        counts=(6509, 1635, 8041),
        classes=196,
    ),
    "flowers102": CoOpDataset(
        folder="oxford_flowers",
        images="jpg",
        split_file="split_zhou_OxfordFlowers.json",
        counts=(4093, 1633, 2463),
        classes=102,
        template="a photo of a {}, a type of flower.",
    ),
    "food101": CoOpDataset(
        folder="food-101",
        images="images",
        split_file="split_zhou_Food101.json",
        counts=(50500, 20200, 30300),
        classes=101,
        template="a photo of {}, a type of food.",
    ),
    "sun397": CoOpDataset(
        folder="sun397",
        images="SUN397",
        split_file="split_zhou_SUN397.json",
        counts=(15880, 3970, 19850),
        classes=397,
    ),
    "dtd": CoOpDataset(
        folder="dtd",
        images="images",
        split_file="split_zhou_DescribableTextures.json",
        counts=(2820, 1128, 1692),
        classes=47,
        template="{} texture.",
    ),
    "eurosat": CoOpDataset(
        folder="eurosat",
        images="2750",
        split_file="split_zhou_EuroSAT.json",
        counts=(13500, 5400, 8100),
        classes=10,
        template="a centered satellite photo of {}.",
    ),
    "ucf101": CoOpDataset(
        folder="ucf101",
        images="UCF-101-midframes",
        split_file="split_zhou_UCF101.json",
        counts=(7639, 1898, 3783),
        classes=101,
        template="a photo of a person doing {}.",
    ),
}


def _missing(name: str, data_root: Path, images: Path, split_path: Path) -> list[str]:
    if not data_root.is_dir():
        return [f"dataset {name}: no such data root: {data_root}"]
    faults = []
    if not images.is_dir():
        faults.append(f"dataset {name}: no such folder of pictures: {images}")
    if not split_path.is_file():
        faults.append(f"dataset {name}: no such split file: {split_path}")
    return faults


def _report_other_counts(
    name: str, published: CoOpDataset, entries: Mapping[str, list[Entry]], classes: int
) -> None:
    """Another split than the published one is allowed, but its figures cannot be compared."""
    found = tuple(len(entries[split]) for split in SPLITS)
    if (found, classes) != (published.counts, published.classes):
        logger.warning(
            "dataset %s: %s holds %s pictures of %d classes, the published one %s of %d: "
            "accuracies on it cannot be compared with published ones",
            name,
            published.split_file,
            "/".join(map(str, found)),
            classes,
            "/".join(map(str, published.counts)),
            published.classes,
        )
