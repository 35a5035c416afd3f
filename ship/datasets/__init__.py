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
from ship.datasets.layouts import (
    PHOTO_TEMPLATE,
    Aircraft,
    CoOpDataset,
    PublishedDataset,
    is_inside,
)
from ship.datasets.xlsa import Xlsa
from ship.pocket import EMOJI_PARQUET, PHOTOS_PARQUET
from ship.registry import PROPAGATED_EXCEPTIONS, DatasetPlugin, PluginError, Registry, format_error

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackagedDataset:
    """A dataset that is installed with ship-sweep. Labels are indices into the sorted class names.

    Attributes:
        path: Parquet file with the columns image (encoded bytes), class_name, split, and
            `image_name_column`.
        image_name_column: Name of the column with the images' names.
        description: Description of the images, shown by `ship-sweep list`.
        template: Prompt with one {} for a class name.
    """

    path: Path
    image_name_column: str
    description: str
    template: str = PHOTO_TEMPLATE

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """Read the Parquet file with all images into memory (a few MB).

        The fingerprint is a hash of the file's bytes and the template.

        Args:
            name: Name of the dataset, for messages.
            data_root: Not used.

        Raises:
            DatasetError: The file cannot be read.
        """
        columns = ["image", "class_name", self.image_name_column, "split"]
        try:
            content = self.path.read_bytes()
            table = pl.read_parquet(content, columns=columns)
        except (pl.exceptions.PolarsError, OSError) as error:
            fault = f"{self.path} cannot be read ({str(error).splitlines()[0]})"
            raise DatasetError(f"dataset {name}: {fault}. Reinstall ship-sweep") from error
        names = sorted(table["class_name"].unique().to_list())
        splits = {}
        for split in SPLITS:
            rows = table.filter(split=split)
            images = map(ImageFile, rows[self.image_name_column], rows["image"])
            labels = np.array([names.index(name) for name in rows["class_name"]], dtype=np.int64)
            splits[split] = Split(tuple(images), labels)
        fingerprint = hashlib.sha256(content + self.template.encode()).hexdigest()[:32]
        return DatasetScan(tuple(map(clean_class_name, names)), splits, fingerprint=fingerprint)


_EMOJI: Final = "Packaged drawings of concrete things by six icon sets. Needs no data root."
_PHOTOS: Final = "Packaged photographs, a fixed subset of Caltech-101. Needs no data root."

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

# Positional arguments: folder of the lists, folder of the images, published numbers of images,
# number of classes, template, and then the fields that the layout adds to PublishedDataset. The
# numbers of images are those of (train, val, test), but (train, 0, val) for ImageNet and (trainval,
# test_seen, test_unseen) for Xlsa.
PUBLISHED: Final[Mapping[str, PublishedDataset]] = {
    "caltech101": CoOpDataset("caltech-101", "101_ObjectCategories", (4128, 1649, 2465), 100,
                              PHOTO_TEMPLATE, "Caltech101"),
    "oxford_pets": CoOpDataset("oxford_pets", "images", (2944, 736, 3669), 37, _PET, "OxfordPets"),
    "stanford_cars": CoOpDataset("stanford_cars", "", (6509, 1635, 8041), 196, PHOTO_TEMPLATE,
                                 "StanfordCars"),
    "flowers102": CoOpDataset("oxford_flowers", "jpg", (4093, 1633, 2463), 102, _FLOWER,
                              "OxfordFlowers"),
    "food101": CoOpDataset("food-101", "images", (50500, 20200, 30300), 101, _FOOD, "Food101"),
    "sun397": CoOpDataset("sun397", "SUN397", (15880, 3970, 19850), 397, PHOTO_TEMPLATE, "SUN397"),
    "dtd": CoOpDataset("dtd", "images", (2820, 1128, 1692), 47, "{} texture.",
                       "DescribableTextures"),
    "eurosat": CoOpDataset("eurosat", "2750", (13500, 5400, 8100), 10, _EUROSAT, "EuroSAT"),
    "ucf101": CoOpDataset("ucf101", "UCF-101-midframes", (7639, 1898, 3783), 101, _ACTION,
                          "UCF101"),
    "fgvc_aircraft": Aircraft("fgvc_aircraft", "images", (3334, 3333, 3333), 100, _AIRCRAFT),
    "imagenet": ImageNet("imagenet", "images", (1281167, 0, 50000), 1000),
    "imagenetv2": ImageNet("imagenetv2", _V2, (0, 0, 10000), 1000, variant="numbered"),
    "imagenet_sketch": ImageNet("imagenet-sketch", "images", (0, 0, 50889), 1000, variant="whole"),
    "imagenet_a": ImageNet("imagenet-adversarial", "imagenet-a", (0, 0, 7500), 200, variant="part"),
    "imagenet_r": ImageNet("imagenet-rendition", "imagenet-r", (0, 0, 30000), 200, variant="part"),
    "awa2": Xlsa("xlsa17/data/AWA2", "Animals_with_Attributes2/JPEGImages", (23527, 5882, 7913), 50,
                 PHOTO_TEMPLATE, "JPEGImages", n_seen=40),
    "cub": Xlsa("xlsa17/data/CUB", "CUB_200_2011/images", (7057, 1764, 2967), 200, PHOTO_TEMPLATE,
                "images", n_seen=150),
    "sun_attributes": Xlsa("xlsa17/data/SUN", "SUN/images", (10320, 2580, 1440), 717,
                           PHOTO_TEMPLATE, "images", n_seen=645),
    "flo": Xlsa("xlsa17/data/FLO", "oxford_flowers/jpg", (5631, 1403, 1155), 102, _FLOWER, "",
                "oxford_flowers/cat_to_name.json", n_seen=82),
}  # fmt: skip
"""Published datasets by name."""

SUGGESTED_NAMES: Final = {
    "pets": "oxford_pets", "cars": "stanford_cars", "sun": "sun397", "textures": "dtd",
    "describable_textures": "dtd", "UCF-101-midframes": "ucf101", "ilsvrc2012": "imagenet",
    "imagenetv2-matched-frequency": "imagenetv2", "animals_with_attributes": "awa2",
    "CUB_200_2011": "cub", "birds": "cub",
}  # fmt: skip
"""Other common names of datasets -> key of DATASETS. They are not accepted in a YAML, but the error
message suggests the key."""

DATASETS: Final[Registry[DatasetSpec]] = Registry(
    "dataset",
    DatasetPlugin,
    starmap(DatasetPlugin, {**PACKAGED, **PUBLISHED}.items()),
)
"""Packaged and published datasets, and those of plugins, by name. Custom folders of images
(image_folder:NAME) are not included; see find_spec."""


def load_dataset(
    name: str,
    data_root: Path | None = None,
    digest_cache_dir: Path | None = None,
    folder: ImageFolder = DEFAULT_FOLDER,
) -> ImageDataset:
    """Scan a dataset, log its warnings, hash its content, and return it.

    Args:
        name: A key of DATASETS, or image_folder:NAME for the folder data_root/NAME.
        data_root: Folder that contains the datasets' folders. Not needed for packaged datasets.
        digest_cache_dir: Folder with cached hashes of image files, so that only new and changed
            files are read. None reads all files. Ignored if `data_root` is None, because packaged
            datasets have no image files.
        folder: Layout and options of image_folder:NAME, ignored for all other datasets.

    Returns:
        The dataset with its fingerprints. No image is decoded.

    Raises:
        DatasetError: The name is unknown, or the dataset has faults. The error lists all of them.
        PluginError: A plugin raised an exception other than DatasetError and OSError.
    """
    scan = scan_dataset(name, data_root, folder)
    if scan.faults:
        raise DatasetError(*scan.faults)
    for line in (*scan.differences, *scan.warnings):
        logger.warning("%s", line)
    for line in scan.notes:
        logger.info("%s", line)
    digest_cache = None
    if digest_cache_dir is not None and data_root is not None:
        digest_cache = DigestCache(digest_cache_dir, f"{name} in {data_root.absolute()}")
    template = find_spec(name, data_root, folder).template
    dataset = ImageDataset(name=name, template=template, **vars(scan))
    images_fingerprint = dataset.fingerprint or hash_dataset(dataset, digest_cache)
    fingerprint = images_fingerprint
    if dataset.folder_names:
        fingerprint = _hash_repr((fingerprint, dataset.class_names))
    if dataset.few_shot:
        fingerprint = _hash_repr((fingerprint, sorted(dataset.few_shot.items())))
    return replace(dataset, fingerprint=fingerprint, images_fingerprint=images_fingerprint)


def _hash_repr(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def scan_dataset(
    name: str, data_root: Path | None = None, folder: ImageFolder = DEFAULT_FOLDER
) -> DatasetScan:
    """Scan a dataset on disk for faults and for differences from the published one.

    Args:
        name: A key of DATASETS, or image_folder:NAME for the folder data_root/NAME.
        data_root: Folder that contains the datasets' folders. Not needed for packaged datasets.
        folder: Layout and options of image_folder:NAME, ignored for all other datasets.

    Returns:
        The scan, which contains only `faults` if the dataset cannot be read at all.

    Raises:
        DatasetError: The name is unknown.
        PluginError: A plugin raised an exception other than DatasetError and OSError.
    """
    spec, subject = find_spec(name, data_root, folder), f"dataset {shorten_list([name])}"
    try:
        scan = spec.scan(name, data_root)
    except DatasetError as error:
        return DatasetScan(faults=error.faults)
    except OSError as error:  # no permission, or a name that the file system rejects
        # plugins and Pillow may raise an OSError without errno, whose strerror is None
        lines = (error.strerror or str(error)).splitlines() or [type(error).__name__]
        path = "" if error.filename is None else f" ({shorten_list([str(error.filename)])})"
        return DatasetScan(faults=(f"{subject}: cannot be read: {lines[0]}{path}",))
    except PROPAGATED_EXCEPTIONS:
        raise
    except BaseException as error:
        origin = DATASETS.origins.get(name)
        if origin is None:
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{format_error(error)} ({frame.filename}, line {frame.lineno})"
        raise PluginError(f"{origin.label}: dataset {name} cannot be read: {reason}") from error
    faults = Faults(scan.faults)
    # With faults, splits may lack images, and a correct few-shot list would seem wrong.
    if scan.few_shot and not faults:
        faults.add_few_shot(subject, scan)
    faults.add_odd_names(subject, scan.class_names, spec.template)
    return replace(scan, faults=tuple(faults))


def has_unseen_training_images(name: str) -> bool:
    """Return False for datasets of xlsa17: their unseen classes have test images only."""
    return not isinstance(DATASETS.get(name), Xlsa)


def find_nearest_dataset(name: str, data_root: Path | None = None) -> str | None:
    """Suggest the dataset that an unknown name probably means, e.g. flowers102 for oxford_flowers.

    The name is compared with DATASETS, SUGGESTED_NAMES and the datasets' folders. Only letters and
    digits count, ignoring case. If the data root has a folder with exactly this name,
    image_folder:NAME is suggested, unless a known dataset or its folder has that name.

    Args:
        name: The unknown name.
        data_root: Folder that contains the datasets' folders. None if none is configured.

    Returns:
        The name of the dataset, or None if nothing is similar.
    """
    folder_paths = ((getattr(spec, "folder", ""), key) for key, spec in DATASETS.items())
    folders = {
        _normalize_name(folder.rpartition("/")[2]): key for folder, key in folder_paths if folder
    }
    names = {_normalize_name(key): key for key in DATASETS}
    if data_root is not None and is_inside(name) and _normalize_name(name) not in folders | names:
        with suppress(OSError):  # a name that the file system rejects
            if (data_root / name).is_dir():
                return f"{PREFIX}{name}"
    other_names = {_normalize_name(other): key for other, key in SUGGESTED_NAMES.items()}
    key_by_spelling = folders | other_names | names  # a key takes precedence
    matches = get_close_matches(_normalize_name(name), key_by_spelling, n=1, cutoff=0.6)
    return key_by_spelling[matches[0]] if matches else None


def _normalize_name(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name).lower()


def find_spec(
    name: str, data_root: Path | None = None, folder: ImageFolder = DEFAULT_FOLDER
) -> DatasetSpec:
    """Return the specification of a dataset, which has its template and scans its files.

    Args:
        name: A key of DATASETS, or image_folder:NAME.
        data_root: Folder that contains the datasets' folders, for the suggestion in the error.
        folder: Layout and options of image_folder:NAME, returned unchanged for such a name.

    Raises:
        DatasetError: The name is unknown. The message suggests a similar one.
    """
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
    "has_unseen_training_images",
    "load_dataset",
    "scan_dataset",
]  # fmt: skip
