"""What lies on disk of a dataset, sound or not, and the dataset that a sound one becomes."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ship.datasets.base import SPLITS, DatasetError, PictureDataset, Split
from ship.datasets.content import DigestMemory, content_fingerprint, copy_faults, picture_hashes

logger = logging.getLogger(__name__)


def _no_splits() -> Mapping[str, Split]:
    return {split: Split((), np.empty(0, dtype=np.int64)) for split in SPLITS}


@dataclass(frozen=True, eq=False)
class Survey:
    """A dataset as it was found: the whole where there is no fault, else what could be read.

    faults: why it cannot be used, a line each. unlike: in what it differs from the published set,
    so that accuracies cannot be compared. warnings: what is probably a mistake, though the set can
    be used. notes: what is worth knowing and is no mistake. own_split: it is no published one.
    fingerprint: where the layout has its own; "": content_fingerprint, by_size or not.
    The rest is as in PictureDataset; pictures that a faulty survey holds may be missing or broken.
    """

    class_names: tuple[str, ...] = ()
    splits: Mapping[str, Split] = field(default_factory=_no_splits)
    faults: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_seen: int | None = None
    split_version: str = ""
    fingerprint: str = ""
    by_size: bool = False
    warnings: tuple[str, ...] = ()
    own_split: bool = False


@runtime_checkable
class DatasetSpec(Protocol):
    """How one dataset is found and read."""

    @property
    def template(self) -> str:
        """Prompt with one {} for a class name."""

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read names, labels and picture references; no picture's content."""


def assemble(
    name: str, template: str, survey: Survey, memory: DigestMemory | None = None
) -> PictureDataset:
    """The dataset of a survey, its content hashed.

    Files with the same bytes in two splits are told as well, as every file's bytes are hashed
    here; not where sizes stand for bytes. In one's own folder they are a fault. A published split
    is used as it is, with a warning: without them its figures could not be compared.

    Args:
        name: as given in the configuration.
        template: a prompt with one {} for a class name.
        survey: of the dataset's files.
        memory: of pictures that were hashed before.

    Raises:
        DatasetError: the survey's faults, a picture that cannot be read, or copies.
    """
    if survey.faults:
        raise DatasetError(survey.faults)
    for line in (*survey.unlike, *survey.warnings):
        logger.warning("%s", line)
    for line in survey.notes:
        logger.info("%s", line)
    fingerprint = survey.fingerprint or _fingerprint(name, template, survey, memory)
    return PictureDataset(
        name,
        survey.class_names,
        template,
        survey.splits,
        fingerprint,
        survey.n_seen,
        survey.split_version,
    )


def _fingerprint(name: str, template: str, survey: Survey, memory: DigestMemory | None) -> str:
    """The hash of a survey's content; DatasetError for copies and what cannot be read."""
    splits = survey.splits
    try:
        hashes = picture_hashes(splits, by_size=survey.by_size, memory=memory)
    except OSError as why:
        raise DatasetError(f"dataset {name}: {why.filename}: {why.strerror}") from why
    if not survey.by_size:
        named = {
            split: {p.name: h for p, h in zip(splits[split].pictures, hashes[split], strict=True)}
            for split in SPLITS
        }
        copies = [f"dataset {name}: {fault}" for fault in copy_faults(named)]
        if copies and survey.own_split:
            raise DatasetError(copies)
        for line in copies:
            logger.warning("%s", line)
    return content_fingerprint(survey.class_names, template, splits, hashes, survey.n_seen)


def untrained_classes(survey: Survey) -> list[str]:
    """Names of classes that training should show, but has no picture of.

    The officially unseen ones need none, nor does any of a set that is a target alone.
    """
    labels = survey.splits["train"].labels
    seen = survey.class_names[: survey.n_seen]
    there = set(labels.tolist())
    return [name for label, name in enumerate(seen) if there and label not in there]


def counted(splits: Mapping[str, Split]) -> tuple[int, int, int]:
    """Pictures in train, val and test."""
    train, val, test = (len(splits[split]) for split in SPLITS)
    return train, val, test


def slashed(counts: Iterable[int]) -> str:
    """Counts of train, val and test pictures: "4128/1649/2465"."""
    return "/".join(map(str, counts))


def repeated(items: Iterable[str]) -> list[str]:
    """Items that come more than once, sorted."""
    return sorted(item for item, times in Counter(items).items() if times > 1)
