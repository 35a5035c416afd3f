"""How published sets are read: one checker of pictures, and the layouts that are lists in files.

A layout is a reader of lists and folders that gives (split, path, label) for each picture.
"""

import hashlib
import os
import posixpath
import re
import stat
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from ship.datasets.base import (
    SPLITS,
    DatasetError,
    Faults,
    Picture,
    Split,
    Survey,
    clean_class_name,
)
from ship.datasets.lists import LARGEST_FILE, Row, read_lines, read_split

PHOTO: Final = "a photo of a {}."
_DRIVE: Final = re.compile(r"[A-Za-z]:/")


@dataclass(frozen=True)
class Found:
    """What lists and folders say, before pictures are looked at.

    survey: class names and whatever else it holds, but for splits, faults and what is unlike.
    images: the folder of pictures. where: what says which pictures are of which class and split.
    counts: to be compared with the published ones; None: the pictures in train, val and test.
    """

    survey: Survey
    images: Path
    where: Path
    rows: Sequence[Row] = ()
    counts: tuple[int, ...] | None = None

    def checked(self, faults: Faults) -> Survey:
        """The survey with its splits, each of whose pictures is looked at without being read.

        Args:
            faults: those of reading; told, too, of pictures that are in two splits or under two
                labels, that leave the folder (they are left out), are missing, empty or too large,
                of a missing folder, and of fewer than two classes.
        """
        files = {path: self.images / path for _, path, _ in self.rows if is_inside(path)}
        held: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for split, path, label in self.rows:
            if path in files:
                held[posixpath.normpath(path)].add((split, label))  # "a//b", "./a/b" are "a/b"
        leaked = [path for path, own in held.items() if len({split for split, _ in own}) > 1]
        torn = [path for path, own in held.items() if len({label for _, label in own}) > 1]
        outside = {repr(path) for _, path, _ in self.rows if path not in files}
        faults.tell(self.where, "picture", sorted(leaked), "in more than one split")
        faults.tell(self.where, "picture", sorted(torn), "under two labels")
        faults.tell(self.images, "picture path", sorted(outside), "outside of the folder")
        _look_at(files, self.images, faults)
        if (n := len(self.survey.class_names)) < 2 and not faults:
            faults.append(f"{self.where}: must have at least 2 classes, has {n}")
        splits = {}
        for split in SPLITS:
            own = [row[1:] for row in self.rows if row[0] == split and row[1] in files]
            labels = np.array([label for _, label in own], dtype=np.int64)
            splits[split] = Split(tuple(Picture(path, files[path]) for path, _ in own), labels)
        return replace(self.survey, splits=splits, faults=tuple(faults))


def _look_at(files: Mapping[str, Path], images: Path, faults: Faults) -> None:
    """Tell of files that are not there, files without content, and files that are too large."""
    if not images.is_dir():
        faults.append(f"{images}: no such folder")
        return
    sizes = {path: file_size(file) for path, file in sorted(files.items())}
    faults.tell(images, "missing picture", [path for path, size in sizes.items() if size < 0])
    faults.tell(images, "picture of zero bytes", [p for p, size in sizes.items() if size == 0])
    large = [path for path, size in sizes.items() if size > LARGEST_FILE]
    faults.tell(images, "picture", large, f"larger than {LARGEST_FILE >> 20} MiB")


def file_size(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # no file system takes a lone surrogate
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def is_inside(path: str) -> bool:
    """Whether a relative path, taken at its word, stays in the folder that it is relative to.

    Also by the rules of Windows. Links on the disk are not looked at: people link datasets.
    """
    slashed = path.replace("\\", "/")
    leaves = slashed.startswith("/") or ".." in slashed.split("/") or _DRIVE.match(slashed)
    return bool(path) and "\0" not in path and not leaves


def by_hash(paths: Iterable[str], salt: str = "") -> list[str]:
    """Paths in the order of their SHA-256: as good as shuffled, and the same on every machine.

    Args:
        salt: stands before each path; another one gives another order.
    """
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(salt + path)).digest())


def counted(splits: Mapping[str, Split]) -> tuple[int, ...]:
    """Pictures in train, val and test."""
    return tuple(len(splits[split]) for split in SPLITS)


def slashed(counts: Iterable[int]) -> str:
    """Counts of train, val and test pictures: "4128/1649/2465"."""
    return "/".join(map(str, counts))


def root_of(name: str, data_root: Path | None, *folders: str) -> Path:
    """The data root, for the dataset of some folders in it.

    Raises:
        DatasetError: it is None, or no folder.
    """
    if data_root is None:
        places = " and ".join(dict.fromkeys(f"{folder.partition('/')[0]}/" for folder in folders))
        raise DatasetError(f"dataset {name} needs a data root: the folder that holds {places}")
    if not data_root.is_dir():
        raise DatasetError(f"dataset {name}: no such data root: {data_root}")
    return data_root


@dataclass(frozen=True)
class Published(ABC):
    """A published dataset below the data root; how it is read, its layout says.

    folder: holds the lists. images: holds the pictures, in folder ("" for folder itself).
    counts: pictures in the published train, val and test split. classes: how many it has.
    template: a prompt with one {} for a class name.
    n_seen: officially seen classes; None: there is no official split.
    """

    folder: str
    images: str
    counts: tuple[int, int, int]
    classes: int
    template: str = PHOTO
    n_seen: int | None = field(default=None, kw_only=True)

    @abstractmethod
    def read(self, data_root: Path, faults: Faults) -> Found:
        """Read lists and folders; what cannot be read is told, and holds nothing."""

    @property
    def pictures(self) -> str:
        """The folder of pictures below the data root."""
        return f"{self.folder}/{self.images}".rstrip("/")

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read the lists, look at every picture's size, and compare with what was published."""
        root = root_of(name, data_root, self.pictures, self.folder)
        faults = Faults()
        found = self.read(root, faults)
        survey = found.checked(faults)
        here = found.counts or counted(survey.splits), len(survey.class_names), survey.n_seen
        published = self.counts, self.classes, self.n_seen
        if not found.rows or here == published:
            return survey
        unlike = (
            f"dataset {name}: {found.where.relative_to(root)} holds {_size(*here)}, the published "
            f"one {_size(*published)}: accuracies on it cannot be compared with published ones"
        )
        return replace(survey, unlike=(unlike,))


def _size(counts: tuple[int, ...], classes: int, n_seen: int | None) -> str:
    seen = "" if n_seen is None else f" ({n_seen} seen)"
    return f"{slashed(counts)} pictures of {classes} classes{seen}"


@dataclass(frozen=True)
class CoOp(Published):
    """data_root/folder with a file {"train"|"val"|"test": [[path, label, class name], ...]}.

    split: the file is called split_zhou_SPLIT.json.
    """

    split: str = ""

    @property
    def split_file(self) -> str:
        """In data_root/folder; torchvision has none."""
        return f"split_zhou_{self.split}.json"

    def read(self, data_root: Path, faults: Faults) -> Found:
        """Read the split file."""
        path = data_root / self.folder / self.split_file
        rows, names = read_split(path, faults)
        return Found(Survey(names), data_root / self.pictures, path, rows)


@dataclass(frozen=True)
class Aircraft(Published):
    """FGVC-Aircraft's own lists in data_root/folder, or in its archive's data/ below that.

    images_variant_{train,val,test}.txt hold "<id> <variant>" lines, images/<id>.jpg the pictures;
    labels are the lines of variants.txt in order, as in CoOp.
    """

    def read(self, data_root: Path, faults: Faults) -> Found:
        """Read the lists."""
        folder = data_root / self.folder
        if (folder / "data" / "variants.txt").is_file():
            folder = folder / "data"
        variants = read_lines(folder / "variants.txt", faults)
        faults.tell_same_names(folder / "variants.txt", variants)
        label_of = {variant: label for label, variant in enumerate(variants)}
        rows = []
        for split in SPLITS:
            path, bad = folder / f"images_variant_{split}.txt", []
            for line in read_lines(path, faults):
                picture, _, variant = line.partition(" ")
                if (label := label_of.get(variant.strip())) is None:
                    bad.append(repr(line))
                else:
                    rows.append((split, f"{picture}.jpg", label))
            must = "must be '<id> <variant of variants.txt>'"
            faults.tell(path, "line", bad if variants else (), must)
        survey = Survey(tuple(clean_class_name(variant) for variant in variants))
        return Found(survey, folder / self.images, folder, rows)
