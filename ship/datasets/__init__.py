"""Datasets by name: labelled pictures with a train, a val and a test split."""

from dataclasses import replace
from itertools import starmap
from pathlib import Path
from typing import Final

from ship.datasets.base import (
    SPLITS,
    DatasetError,
    Faults,
    Picture,
    PictureDataset,
    Split,
    UndecodableError,
    some,
)
from ship.datasets.content import DigestMemory
from ship.datasets.image_folder import PREFIX, ImageFolder
from ship.datasets.names import sentence, tell_odd_names
from ship.datasets.published import PACKAGED, PUBLISHED, meant_dataset
from ship.datasets.survey import DatasetSpec, Survey, assemble
from ship.datasets.xlsa import Xlsa
from ship.registry import DatasetPlugin, Registry

DATASETS: Final[Registry[DatasetSpec]] = Registry(
    "dataset",
    "ship_sweep.datasets",
    DatasetPlugin,
    starmap(DatasetPlugin, {**PACKAGED, **PUBLISHED}.items()),
)
"""Every dataset with a name of its own; image_folder:NAME stands beside them."""

_IMAGE_FOLDER: Final = ImageFolder()


def load_dataset(
    name: str, data_root: Path | None = None, memory: Path | None = None
) -> PictureDataset:
    """Read a dataset's names, labels and picture references, and hash its content.

    Args:
        name: a key of DATASETS, or image_folder:NAME for the folder data_root/NAME.
        data_root: the folder that holds the datasets' folders; emoji and photos need none.
        memory: a folder that remembers the hashes of picture files, so that only new and changed
            ones are read; None: all are.
    Raises:
        DatasetError: unknown name, or every fault of its files at once.
    """
    found = survey_dataset(name, data_root)
    digests = None
    if memory is not None and data_root is not None:
        digests = DigestMemory(memory, f"{name} in {data_root.absolute()}")
    return assemble(name, _spec(name).template, found, digests)


def survey_dataset(name: str, data_root: Path | None = None) -> Survey:
    """What lies on disk of a dataset, with its faults and in what it is unlike the published one.

    Raises:
        DatasetError: unknown name.
    """
    try:
        spec = _spec(name)
        found = spec.survey(name, data_root)
    except OSError as why:  # a folder that may not be listed, a name that no disk takes
        return Survey(faults=(f"dataset {some([name])}: cannot be read: {why.strerror}",))
    faults = Faults(found.faults)
    tell_odd_names(faults, f"dataset {some([name])}", found.class_names, spec.template)
    return replace(found, faults=tuple(faults))


def has_unseen_pictures(name: str) -> bool:
    """Whether training has pictures of the unseen classes, too (xlsa17's sets have not)."""
    return not isinstance(DATASETS.get(name), Xlsa)


def nearest_dataset(name: str) -> str | None:
    """The dataset that a name was probably meant to be ("oxford_flowers": flowers102), or None."""
    return meant_dataset(name, DATASETS)


def _spec(name: str) -> DatasetSpec:
    if name.startswith(PREFIX):
        return _IMAGE_FOLDER
    if name not in DATASETS:
        near = nearest_dataset(name)
        hint = f"did you mean {near}? " if near else ""
        choices = ", ".join([*DATASETS.names(), f"{PREFIX}NAME"])
        raise DatasetError(f"unknown dataset {name!r} ({hint}choices: {choices})")
    return DATASETS[name]


__all__ = [
    "DATASETS",
    "SPLITS",
    "DatasetError",
    "DatasetSpec",
    "Picture",
    "PictureDataset",
    "Split",
    "Survey",
    "UndecodableError",
    "has_unseen_pictures",
    "load_dataset",
    "nearest_dataset",
    "sentence",
    "survey_dataset",
]
