"""Every published dataset in one table, and what it is called elsewhere."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from ship.datasets.coop import AircraftDataset, CoOpDataset
from ship.datasets.imagenet import ImageNetDataset
from ship.datasets.layout import PHOTO, Published
from ship.datasets.xlsa import XlsaDataset

_PET: Final = "a photo of a {}, a type of pet."
_FLOWER: Final = "a photo of a {}, a type of flower."
_FOOD: Final = "a photo of {}, a type of food."
_AIRCRAFT: Final = "a photo of a {}, a type of aircraft."
_SATELLITE: Final = "a centered satellite photo of {}."
_ACTION: Final = "a photo of a person doing {}."

# folder, images, pictures in train, val and test, classes, template, n_seen, and what is the
# layout's own; xlsa17's counts are of trainval, test_seen and test_unseen
PUBLISHED: Final[Mapping[str, Published]] = {
    "caltech101": CoOpDataset(
        "caltech-101", "101_ObjectCategories", (4128, 1649, 2465), 100, split="Caltech101"),
    "oxford_pets": CoOpDataset(
        "oxford_pets", "images", (2944, 736, 3669), 37, _PET, split="OxfordPets"),
    "stanford_cars": CoOpDataset(
        "stanford_cars", "", (6509, 1635, 8041), 196, split="StanfordCars"),
    "flowers102": CoOpDataset(
        "oxford_flowers", "jpg", (4093, 1633, 2463), 102, _FLOWER, split="OxfordFlowers"),
    "food101": CoOpDataset(
        "food-101", "images", (50500, 20200, 30300), 101, _FOOD, split="Food101"),
    "sun397": CoOpDataset(
        "sun397", "SUN397", (15880, 3970, 19850), 397, split="SUN397"),
    "dtd": CoOpDataset(
        "dtd", "images", (2820, 1128, 1692), 47, "{} texture.", split="DescribableTextures"),
    "eurosat": CoOpDataset(
        "eurosat", "2750", (13500, 5400, 8100), 10, _SATELLITE, split="EuroSAT"),
    "ucf101": CoOpDataset(
        "ucf101", "UCF-101-midframes", (7639, 1898, 3783), 101, _ACTION, split="UCF101"),
    "fgvc_aircraft": AircraftDataset(
        "fgvc_aircraft", "images", (3334, 3333, 3333), 100, _AIRCRAFT),
    "imagenet": ImageNetDataset(
        "imagenet", "images", (1281167, 0, 50000), 1000),
    "imagenetv2": ImageNetDataset(
        "imagenetv2", "imagenetv2-matched-frequency-format-val", (0, 0, 10000), 1000,
        target=True, numbered=True),
    "imagenet_sketch": ImageNetDataset(
        "imagenet-sketch", "images", (0, 0, 50889), 1000, target=True),
    "imagenet_a": ImageNetDataset(
        "imagenet-adversarial", "imagenet-a", (0, 0, 7500), 200, target=True, subset=True),
    "imagenet_r": ImageNetDataset(
        "imagenet-rendition", "imagenet-r", (0, 0, 30000), 200, target=True, subset=True),
    "awa2": XlsaDataset(
        "xlsa17/data/AWA2", "Animals_with_Attributes2/JPEGImages", (23527, 5882, 7913), 50, PHOTO,
        40, "JPEGImages"),
    "cub": XlsaDataset(
        "xlsa17/data/CUB", "CUB_200_2011/images", (7057, 1764, 2967), 200, PHOTO, 150, "images"),
    "sun_attributes": XlsaDataset(
        "xlsa17/data/SUN", "SUN/images", (10320, 2580, 1440), 717, PHOTO, 645, "images"),
    "flo": XlsaDataset(
        "xlsa17/data/FLO", "oxford_flowers/jpg", (5631, 1403, 1155), 102, _FLOWER, 82,
        names_file="oxford_flowers/cat_to_name.json"),
}  # fmt: skip

_ELSEWHERE: Final = {
    "pets": "oxford_pets",
    "cars": "stanford_cars",
    "sun": "sun397",
    "textures": "dtd",
    "describable_textures": "dtd",
    "UCF-101-midframes": "ucf101",
    "ilsvrc2012": "imagenet",
    "imagenetv2-matched-frequency": "imagenetv2",
    "animals_with_attributes": "awa2",
    "CUB_200_2011": "cub",
    "birds": "cub",
}
"""Names in papers, in torchvision and of archives that are unlike ours and our folders."""


def meant_dataset(name: str, datasets: Mapping[str, Any]) -> str | None:
    """The dataset that a name was probably meant to be, or None.

    Args:
        name: as somebody wrote it; case, hyphens and underscores do not matter.
        datasets: by their names; what has a folder is known by that, too.
    """
    known = {_plain(own): own for own in datasets}
    for other, own in _ELSEWHERE.items():
        known.setdefault(_plain(other), own)
    for own, spec in datasets.items():
        if folder := _plain(getattr(spec, "folder", "").rpartition("/")[2]):
            known.setdefault(folder, own)
    near = get_close_matches(_plain(name), known, n=1, cutoff=0.6)
    return known[near[0]] if near else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
