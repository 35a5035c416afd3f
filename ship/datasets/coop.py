"""CoOp's folder layout: pictures under one folder, labels and splits in a split_zhou_*.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ship.datasets.base import picture_faults
from ship.datasets.faults import root_faults
from ship.datasets.split_file import read_split_file
from ship.datasets.survey import Survey, counted, make_splits, other_counts


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

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read the split file and look at every picture's size."""
        below = f"{self.folder}/{self.images}".rstrip("/")
        faults = root_faults(
            name,
            data_root,
            (below, "folder of pictures"),
            (f"{self.folder}/{self.split_file}", "split file"),
        )
        split_path = (data_root or Path()) / self.folder / self.split_file
        if data_root is None or not split_path.is_file():
            return Survey(faults=tuple(faults))
        images = data_root / below
        entries, class_names, found = read_split_file(split_path)
        faults += [f"{split_path}: {fault}" for fault in found]
        if images.is_dir():
            paths = [path for rows in entries.values() for path, _, _ in rows]
            faults += [f"{images}: {fault}" for fault in picture_faults(images, paths)]
        rows = {
            split: [(path, label) for path, label, _ in found] for split, found in entries.items()
        }
        splits = make_splits(images, rows)
        what = f"dataset {name}: {self.split_file}"
        unlike = other_counts(what, counted(splits), len(class_names), self.counts, self.classes)
        return Survey(class_names, splits, tuple(faults), unlike)


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
