"""Every dataset with a name of its own, packaged or published, and what it is called elsewhere."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from ship.datasets.base import SPLITS, Picture, Split
from ship.datasets.coop import Aircraft, CoOp
from ship.datasets.imagenet import ImageNet
from ship.datasets.layout import PHOTO, Published
from ship.datasets.names import clean_class_name
from ship.datasets.survey import Survey
from ship.datasets.xlsa import Xlsa
from ship.pocket import EMOJI_PARQUET, PHOTOS_PARQUET


@dataclass(frozen=True)
class PackagedDataset:
    """Pictures that come with ship-sweep; labels follow the sorted class names. No data root.

    path: a parquet file with the columns image (encoded bytes), class_name, split, and the one
        that is called naming. naming: the column with a picture's name. about: what they show, in
        a sentence for lists of datasets. template: a prompt with one {} for a class name.
    """

    path: Path
    naming: str
    about: str
    template: str = PHOTO

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read every row into memory (some MB); the fingerprint hashes file and template.

        A file that is missing, empty or of another kind is a fault of the survey: nothing is
        raised.
        """
        columns = ["image", "class_name", self.naming, "split"]
        try:
            content = self.path.read_bytes()
            table = pl.read_parquet(content, columns=columns)
        except (pl.exceptions.PolarsError, OSError) as why:
            what = f"{self.path} cannot be read ({str(why).splitlines()[0]})"
            return Survey(faults=(f"dataset {name}: {what}; install ship-sweep again",))
        raw_names = sorted(table["class_name"].unique().to_list())
        label_of = {raw: label for label, raw in enumerate(raw_names)}
        splits = {s: self._split(table.filter(split=s), label_of) for s in SPLITS}
        fingerprint = hashlib.sha256(content + self.template.encode()).hexdigest()[:32]
        class_names = tuple(clean_class_name(raw) for raw in raw_names)
        return Survey(class_names, splits, fingerprint=fingerprint)

    def _split(self, rows: pl.DataFrame, label_of: dict[str, int]) -> Split:
        pairs = zip(rows[self.naming], rows["image"], strict=True)
        labels = np.array([label_of[raw] for raw in rows["class_name"]], dtype=np.int64)
        return Split(tuple(Picture(called, image) for called, image in pairs), labels)


PACKAGED: Final = {
    "emoji": PackagedDataset(
        EMOJI_PARQUET,
        "icon",
        "Packaged drawings of concrete things by six icon sets. Needs no data root.",
    ),
    "photos": PackagedDataset(
        PHOTOS_PARQUET,
        "picture",
        "Packaged photographs, a fixed part of Caltech-101. Needs no data root.",
    ),
}
"""By name; ship/pocket/NOTICE says how their files were made."""

_PET: Final = "a photo of a {}, a type of pet."
_FLOWER: Final = "a photo of a {}, a type of flower."
_AIRCRAFT: Final = "a photo of a {}, a type of aircraft."
_FOOD: Final = "a photo of {}, a type of food."
_ACTION: Final = "a photo of a person doing {}."
_EUROSAT: Final = "a centered satellite photo of {}."
_V2: Final = "imagenetv2-matched-frequency-format-val"
_AWA2: Final = "Animals_with_Attributes2/JPEGImages"
_NUMBERED: Final = "oxford_flowers/cat_to_name.json"

# folder, images, pictures in train, val and test, classes, template, and what is the layout's own
PUBLISHED: Final[Mapping[str, Published]] = {
    "caltech101": CoOp("caltech-101", "101_ObjectCategories", (4128, 1649, 2465), 100, PHOTO,
                       "Caltech101"),
    "oxford_pets": CoOp("oxford_pets", "images", (2944, 736, 3669), 37, _PET, "OxfordPets"),
    "stanford_cars": CoOp("stanford_cars", "", (6509, 1635, 8041), 196, PHOTO, "StanfordCars"),
    "flowers102": CoOp("oxford_flowers", "jpg", (4093, 1633, 2463), 102, _FLOWER, "OxfordFlowers"),
    "food101": CoOp("food-101", "images", (50500, 20200, 30300), 101, _FOOD, "Food101"),
    "sun397": CoOp("sun397", "SUN397", (15880, 3970, 19850), 397, PHOTO, "SUN397"),
    "dtd": CoOp("dtd", "images", (2820, 1128, 1692), 47, "{} texture.", "DescribableTextures"),
    "eurosat": CoOp("eurosat", "2750", (13500, 5400, 8100), 10, _EUROSAT, "EuroSAT"),
    "ucf101": CoOp("ucf101", "UCF-101-midframes", (7639, 1898, 3783), 101, _ACTION, "UCF101"),
    "fgvc_aircraft": Aircraft("fgvc_aircraft", "images", (3334, 3333, 3333), 100, _AIRCRAFT),
    "imagenet": ImageNet("imagenet", "images", (1281167, 0, 50000), 1000),
    "imagenetv2": ImageNet("imagenetv2", _V2, (0, 0, 10000), 1000, target=True, numbered=True),
    "imagenet_sketch": ImageNet("imagenet-sketch", "images", (0, 0, 50889), 1000, target=True),
    "imagenet_a": ImageNet("imagenet-adversarial", "imagenet-a", (0, 0, 7500), 200, target=True,
                           subset=True),
    "imagenet_r": ImageNet("imagenet-rendition", "imagenet-r", (0, 0, 30000), 200, target=True,
                           subset=True),
    "awa2": Xlsa("xlsa17/data/AWA2", _AWA2, (23527, 5882, 7913), 50, PHOTO, "JPEGImages",
                 n_seen=40),
    "cub": Xlsa("xlsa17/data/CUB", "CUB_200_2011/images", (7057, 1764, 2967), 200, PHOTO, "images",
                n_seen=150),
    "sun_attributes": Xlsa("xlsa17/data/SUN", "SUN/images", (10320, 2580, 1440), 717, PHOTO,
                           "images", n_seen=645),
    "flo": Xlsa("xlsa17/data/FLO", "oxford_flowers/jpg", (5631, 1403, 1155), 102, _FLOWER, "",
                _NUMBERED, n_seen=82),
}  # fmt: skip
"""By name; xlsa17's counts are of trainval, test_seen and test_unseen."""

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
