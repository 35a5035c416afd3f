"""Datasets by name: labelled pictures with a train, a val and a test split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ship.datasets.base import (
    SPLITS,
    DatasetError,
    DatasetSpec,
    Picture,
    PictureDataset,
    Split,
)
from ship.datasets.coop import COOP_DATASETS
from ship.datasets.emoji import EmojiDataset
from ship.datasets.image_folder import PREFIX, ImageFolder

DATASETS: Final[Mapping[str, DatasetSpec]] = {"emoji": EmojiDataset(), **COOP_DATASETS}
"""Every dataset with a name of its own; image_folder:NAME stands beside them."""

_IMAGE_FOLDER: Final = ImageFolder()


def load_dataset(name: str, data_root: Path | None = None) -> PictureDataset:
    """Read a dataset's names, labels and picture references, and hash its content.

    Args:
        name: a key of DATASETS, or image_folder:NAME for the folder data_root/NAME.
        data_root: the folder that holds the datasets' folders; emoji needs none.
    Raises:
        DatasetError: unknown name, or every fault of its files at once.
    """
    return _spec(name).load(name, data_root)


def check_dataset(name: str, data_root: Path | None = None) -> None:
    """Look for every fault that can be seen without reading picture content.

    Raises:
        DatasetError: unknown name, or every fault of its files at once.
    """
    _spec(name).check(name, data_root)


def _spec(name: str) -> DatasetSpec:
    if name.startswith(PREFIX):
        return _IMAGE_FOLDER
    if name not in DATASETS:
        choices = ", ".join([*DATASETS, f"{PREFIX}NAME"])
        raise DatasetError(f"unknown dataset {name!r} (choices: {choices})")
    return DATASETS[name]


__all__ = [
    "DATASETS",
    "SPLITS",
    "DatasetError",
    "DatasetSpec",
    "Picture",
    "PictureDataset",
    "Split",
    "check_dataset",
    "load_dataset",
]
