"""The contract of a dataset, clause by clause; no picture is encoded."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from ship.datasets import DATASETS, SPLITS, Picture, Survey, load_dataset, survey_dataset
from ship.testing.finding import Finding, findings, require

LOOKED_AT: Final = 20
"""Pictures of each split that are decoded."""


@dataclass(frozen=True)
class DatasetSubject:
    """A dataset by its name; data_root: the folder of the datasets' folders, or None."""

    name: str
    data_root: Path | None

    @cached_property
    def survey(self) -> Survey:
        """What lies on disk."""
        return survey_dataset(self.name, self.data_root)


def check_dataset(name: str, data_root: Path | None = None) -> Iterator[Finding]:
    """Check a dataset against its contract.

    Args:
        name: what a YAML says.
        data_root: the folder that holds the datasets' folders.
    """
    return findings(DATASET_CHECKS, DatasetSubject(name, data_root))


def _has_template(subject: DatasetSubject) -> None:
    template = DATASETS[subject.name].template
    found = template.count("{}") if isinstance(template, str) else 0
    require(found == 1, f"template is {template!r}, and must have one {{}} for a class name")


def _is_sound(subject: DatasetSubject) -> None:
    faults = subject.survey.faults
    require(not faults, "; ".join(faults[:5]))
    names = subject.survey.class_names
    require(len(names) >= 2, f"it has {len(names)} classes, and must have at least 2")
    require(all(isinstance(name, str) for name in names), "class names must be text")


def _is_labelled(subject: DatasetSubject) -> None:
    n_cls = len(subject.survey.class_names)
    require(set(subject.survey.splits) == set(SPLITS), f"splits must be {', '.join(SPLITS)}")
    for name, split in subject.survey.splits.items():
        labels = split.labels
        require(
            isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.ndim == 1,
            f"labels of {name} must be a one-dimensional int64 array",
        )
        require(len(labels) == len(split.pictures), f"{name} has not one label a picture")
        inside = not len(labels) or (labels.min() >= 0 and labels.max() < n_cls)
        require(bool(inside), f"labels of {name} must lie from 0 to {n_cls - 1}")
    require(len(subject.survey.splits["test"]) > 0, "test has no pictures")


def _can_be_decoded(subject: DatasetSubject) -> None:
    for name, split in subject.survey.splits.items():
        step = max(1, len(split) // LOOKED_AT)
        for picture in split.pictures[::step]:
            require(type(picture) is Picture, "pictures must be ship.datasets.Picture itself")
            mode = picture.open().mode
            require(mode == "RGB", f"{picture.name} of {name} is decoded as {mode}")


def _is_the_same_again(subject: DatasetSubject) -> None:
    first, second = (load_dataset(subject.name, subject.data_root) for _ in range(2))
    require(first.fingerprint == second.fingerprint, "a second reading gives another fingerprint")
    require(first.class_names == second.class_names, "a second reading gives other class names")


DATASET_CHECKS: Final[Mapping[str, Callable[[DatasetSubject], None]]] = {
    "its template has one place for a class name": _has_template,
    "it can be read, and has classes": _is_sound,
    "every picture of every split has a label of a class": _is_labelled,
    "pictures can be decoded (some of each split)": _can_be_decoded,
    "a second reading gives the same": _is_the_same_again,
}
"""What must hold, in words -> what looks whether it does."""
