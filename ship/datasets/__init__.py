"""Load datasets by name: labeled images with a train, a val and a test split."""

import hashlib
import logging
import re
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import starmap
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from ship.datasets.base import (
    SPLITS,
    DatasetError,
    DatasetScan,
    DatasetSpec,
    Faults,
    ImageDataset,
    ImageFile,
    Split,
    UndecodableError,
    clean_class_name,
    shorten_list,
)
from ship.datasets.content import DigestCache, hash_dataset
from ship.datasets.folders import SUFFIXES, ImageNet
from ship.datasets.image_folder import DEFAULT_FOLDER, PREFIX, ImageFolder
from ship.datasets.layouts import PHOTO, Aircraft, CoOpDataset, Published, is_inside
from ship.datasets.xlsa import Xlsa
from ship.pocket import EMOJI_PARQUET, PHOTOS_PARQUET
from ship.registry import EXITS, DatasetPlugin, PluginError, Registry, format_error

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackagedDataset:
    """A dataset packaged with ship-sweep. It needs no data root. Labels follow the sorted names.

    Attributes:
        path: Parquet file with the columns image (encoded bytes), class_name, split and `naming`.
        naming: Column with the name of an image.
        description: Description of the images for lists of datasets.
        template: Prompt with one {} for a class name.
    """

    path: Path
    naming: str
    description: str
    template: str = PHOTO

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """Read all rows into memory (some MB). The fingerprint hashes file and template."""
        columns = ["image", "class_name", self.naming, "split"]
        try:
            content = self.path.read_bytes()
            table = pl.read_parquet(content, columns=columns)
        except (pl.exceptions.PolarsError, OSError) as why:
            what = f"{self.path} cannot be read ({str(why).splitlines()[0]})"
            raise DatasetError(f"dataset {name}: {what}. Reinstall ship-sweep") from why
        names = sorted(table["class_name"].unique().to_list())
        splits = {}
        for split in SPLITS:
            rows = table.filter(split=split)
            images = map(ImageFile, rows[self.naming], rows["image"])
            labels = np.array([names.index(name) for name in rows["class_name"]], dtype=np.int64)
            splits[split] = Split(tuple(images), labels)
        digest = hashlib.sha256(content + self.template.encode()).hexdigest()[:32]
        return DatasetScan(tuple(map(clean_class_name, names)), splits, fingerprint=digest)


_EMOJI: Final = "Packaged drawings of concrete things by six icon sets. Needs no data root."
_PHOTOS: Final = "Packaged photographs, a fixed part of Caltech-101. Needs no data root."

PACKAGED: Final = {
    "emoji": PackagedDataset(EMOJI_PARQUET, "icon", _EMOJI),
    "photos": PackagedDataset(PHOTOS_PARQUET, "picture", _PHOTOS),
}
"""Packaged datasets by name. ship/pocket/NOTICE describes how their files were created."""

_PET: Final = "a photo of a {}, a type of pet."
_FLOWER: Final = "a photo of a {}, a type of flower."
_AIRCRAFT: Final = "a photo of a {}, a type of aircraft."
_FOOD: Final = "a photo of {}, a type of food."
_ACTION: Final = "a photo of a person doing {}."
_EUROSAT: Final = "a centered satellite photo of {}."
_V2: Final = "imagenetv2-matched-frequency-format-val"

# Arguments: folder, images, numbers of images in train, val and test, number of classes, template,
# and the fields of the layout.
PUBLISHED: Final[Mapping[str, Published]] = {
    "caltech101": CoOpDataset("caltech-101", "101_ObjectCategories", (4128, 1649, 2465), 100, PHOTO,
                       "Caltech101"),
    "oxford_pets": CoOpDataset("oxford_pets", "images", (2944, 736, 3669), 37, _PET, "OxfordPets"),
    "stanford_cars": CoOpDataset("stanford_cars", "", (6509, 1635, 8041), 196, PHOTO,
                                 "StanfordCars"),
    "flowers102": CoOpDataset("oxford_flowers", "jpg", (4093, 1633, 2463), 102, _FLOWER,
                              "OxfordFlowers"),
    "food101": CoOpDataset("food-101", "images", (50500, 20200, 30300), 101, _FOOD, "Food101"),
    "sun397": CoOpDataset("sun397", "SUN397", (15880, 3970, 19850), 397, PHOTO, "SUN397"),
    "dtd": CoOpDataset("dtd", "images", (2820, 1128, 1692), 47, "{} texture.",
                       "DescribableTextures"),
    "eurosat": CoOpDataset("eurosat", "2750", (13500, 5400, 8100), 10, _EUROSAT, "EuroSAT"),
    "ucf101": CoOpDataset("ucf101", "UCF-101-midframes", (7639, 1898, 3783), 101, _ACTION,
                          "UCF101"),
    "fgvc_aircraft": Aircraft("fgvc_aircraft", "images", (3334, 3333, 3333), 100, _AIRCRAFT),
    "imagenet": ImageNet("imagenet", "images", (1281167, 0, 50000), 1000),
    "imagenetv2": ImageNet("imagenetv2", _V2, (0, 0, 10000), 1000, target="numbered"),
    "imagenet_sketch": ImageNet("imagenet-sketch", "images", (0, 0, 50889), 1000, target="whole"),
    "imagenet_a": ImageNet("imagenet-adversarial", "imagenet-a", (0, 0, 7500), 200, target="part"),
    "imagenet_r": ImageNet("imagenet-rendition", "imagenet-r", (0, 0, 30000), 200, target="part"),
    "awa2": Xlsa("xlsa17/data/AWA2", "Animals_with_Attributes2/JPEGImages", (23527, 5882, 7913), 50,
                 PHOTO, "JPEGImages", n_seen=40),
    "cub": Xlsa("xlsa17/data/CUB", "CUB_200_2011/images", (7057, 1764, 2967), 200, PHOTO, "images",
                n_seen=150),
    "sun_attributes": Xlsa("xlsa17/data/SUN", "SUN/images", (10320, 2580, 1440), 717, PHOTO,
                           "images", n_seen=645),
    "flo": Xlsa("xlsa17/data/FLO", "oxford_flowers/jpg", (5631, 1403, 1155), 102, _FLOWER, "",
                "oxford_flowers/cat_to_name.json", n_seen=82),
}  # fmt: skip
"""Published datasets by name. Xlsa's counts are those of trainval, test_seen and test_unseen."""

ALIASES: Final = {
    "pets": "oxford_pets", "cars": "stanford_cars", "sun": "sun397", "textures": "dtd",
    "describable_textures": "dtd", "UCF-101-midframes": "ucf101", "ilsvrc2012": "imagenet",
    "imagenetv2-matched-frequency": "imagenetv2", "animals_with_attributes": "awa2",
    "CUB_200_2011": "cub", "birds": "cub",
}  # fmt: skip
"""Other names of datasets in papers, torchvision and archives."""

DATASETS: Final[Registry[DatasetSpec]] = Registry(
    "dataset",
    DatasetPlugin,
    starmap(DatasetPlugin, {**PACKAGED, **PUBLISHED}.items()),
)
"""All datasets with a fixed name. image_folder:NAME is handled separately."""


def load_dataset(
    name: str,
    data_root: Path | None = None,
    digest_cache_dir: Path | None = None,
    folder: ImageFolder = DEFAULT_FOLDER,
) -> ImageDataset:
    """Read a dataset's names, labels and image references, and hash its content.

    Args:
        name: A key of DATASETS, or image_folder:NAME for the folder data_root/NAME.
        data_root: Folder that contains the datasets' folders. Packaged datasets need none.
        digest_cache_dir: Folder that caches the hashes of image files, so that only new and
            changed files are read. Defaults to reading all files.
        folder: Options for reading an image_folder:NAME.

    Raises:
        DatasetError: The name is unknown, or the files have faults. The error lists all faults.
        PluginError: A plugin raised an exception other than DatasetError and OSError.
    """
    scan = scan_dataset(name, data_root, folder)
    if scan.faults:
        raise DatasetError(*scan.faults)
    for line in (*scan.differences, *scan.warnings):
        logger.warning("%s", line)
    for line in scan.notes:
        logger.info("%s", line)
    digests = None
    if digest_cache_dir is not None and data_root is not None:
        digests = DigestCache(digest_cache_dir, f"{name} in {data_root.absolute()}")
    template = find_spec(name, data_root, folder).template
    dataset = ImageDataset(name=name, template=template, **vars(scan))
    images = content_hash = dataset.fingerprint or hash_dataset(dataset, digests)
    if dataset.folder_names:
        content_hash = hashlib.sha256(repr((images, dataset.class_names)).encode()).hexdigest()[:32]
    if dataset.few_shot:
        lists = sorted(dataset.few_shot.items())
        content_hash = hashlib.sha256(repr((content_hash, lists)).encode()).hexdigest()[:32]
    return replace(dataset, fingerprint=content_hash, images_fingerprint=images)


def scan_dataset(
    name: str, data_root: Path | None = None, folder: ImageFolder = DEFAULT_FOLDER
) -> DatasetScan:
    """Scan a dataset on disk for faults and for differences from the published one.

    Args:
        name: A key of DATASETS, or image_folder:NAME for the folder data_root/NAME.
        data_root: Folder that contains the datasets' folders. Packaged datasets need none.
        folder: Options for reading an image_folder:NAME.

    Returns:
        The scan. A dataset that cannot be read at all has only faults.

    Raises:
        DatasetError: The name is unknown.
        PluginError: A plugin raised an exception other than DatasetError and OSError.
    """
    spec, label = find_spec(name, data_root, folder), f"dataset {shorten_list([name])}"
    try:
        scan = spec.scan(name, data_root)
    except DatasetError as why:
        return DatasetScan(faults=why.faults)
    except OSError as why:  # a folder without permission, a name that the disk does not support
        return DatasetScan(faults=(f"{label}: cannot be read: {why.strerror}",))
    except EXITS:
        raise
    except BaseException as why:
        origin = DATASETS.origins.get(name)
        if origin is None:
            raise
        at = traceback.extract_tb(why.__traceback__)[-1]
        error_text = f"{format_error(why)} ({at.filename}, line {at.lineno})"
        raise PluginError(f"{origin.label}: dataset {name} cannot be read: {error_text}") from why
    faults = Faults(scan.faults)
    if scan.few_shot and not faults:  # otherwise some images may be missing from the splits
        faults.add_few_shot(label, scan)
    faults.add_odd_names(label, scan.class_names, spec.template)
    return replace(scan, faults=tuple(faults))


def has_unseen_images(name: str) -> bool:
    """Return True if a dataset has training images of its unseen classes. xlsa17's have none."""
    return not isinstance(DATASETS.get(name), Xlsa)


def find_nearest_dataset(name: str, data_root: Path | None = None) -> str | None:
    """Suggest the dataset that an unknown name probably means, e.g. flowers102 for oxford_flowers.

    Case, hyphens and underscores are ignored, and folder names of datasets are recognized. Another
    folder of this name in the data root is suggested as image_folder:NAME.

    Returns:
        The name of the dataset, or None if nothing is similar.
    """
    specs = ((getattr(spec, "folder", ""), key) for key, spec in DATASETS.items())
    folders = {_normalize(folder.rpartition("/")[2]): key for folder, key in specs if folder}
    names = {_normalize(key): key for key in DATASETS}
    if data_root is not None and is_inside(name) and _normalize(name) not in folders | names:
        with suppress(OSError):  # a name that the disk does not support
            if (data_root / name).is_dir():
                return f"{PREFIX}{name}"
    # later entries override earlier ones
    name_by_spelling = folders | {_normalize(alias): key for alias, key in ALIASES.items()} | names
    matches = get_close_matches(_normalize(name), name_by_spelling, n=1, cutoff=0.6)
    return name_by_spelling[matches[0]] if matches else None


def _normalize(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def find_spec(
    name: str, data_root: Path | None = None, folder: ImageFolder = DEFAULT_FOLDER
) -> DatasetSpec:
    """Return the layout of a dataset. The arguments and the error are those of `scan_dataset`."""
    if name.startswith(PREFIX):
        return folder
    if name not in DATASETS:
        suggestion = find_nearest_dataset(name, data_root)
        hint = f"did you mean {suggestion}? " if suggestion else ""
        choices = ", ".join([*DATASETS, f"{PREFIX}NAME"])
        raise DatasetError(f"unknown dataset {name!r} ({hint}choices: {choices})")
    return DATASETS[name]


__all__ = [
    "DATASETS",
    "PREFIX",
    "SPLITS",
    "SUFFIXES",
    "DatasetError",
    "DatasetScan",
    "DatasetSpec",
    "ImageDataset",
    "ImageFile",
    "ImageFolder",
    "ImageNet",
    "Split",
    "UndecodableError",
    "find_nearest_dataset",
    "find_spec",
    "has_unseen_images",
    "load_dataset",
    "scan_dataset",
]  # fmt: skip
