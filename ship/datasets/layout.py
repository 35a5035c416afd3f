"""How a layout is read: its lists, one checker of classes and pictures, the published counts."""

import errno
import hashlib
import json
import os
import posixpath
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ship.datasets.base import LARGEST_FILE, SPLITS, Faults, Picture, Split
from ship.datasets.survey import Survey, counted, slashed

PHOTO: Final = "a photo of a {}."
SUFFIXES: Final = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif",
     ".tiff", ".webp")
)  # fmt: skip
"""Where folders are listed, files with these endings (any case) are pictures."""
_DRIVE: Final = re.compile(r"[A-Za-z]:/")

Row = tuple[str, str, int]
"""Split, picture path relative to the folder of pictures, label."""


@dataclass(frozen=True)
class Found:
    """What the lists and folders of a published dataset say, before pictures are looked at.

    survey: class names and whatever else it holds, but for splits, faults and what is unlike.
    images: the folder of pictures. where: what says which pictures are of which class and split.
    counts: to be compared with the published ones; None: the pictures in train, val and test.
    """

    survey: Survey
    rows: Sequence[Row]
    images: Path
    where: Path
    counts: tuple[int, ...] | None = None


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
        if data_root is None or not data_root.is_dir():
            return Survey(faults=(no_root(name, data_root, self.pictures, self.folder),))
        faults = Faults()
        found = self.read(data_root, faults)
        splits = checked(found.survey.class_names, found.rows, found.images, found.where, faults)
        here = _size(
            found.counts or counted(splits), len(found.survey.class_names), found.survey.n_seen
        )
        published = _size(self.counts, self.classes, self.n_seen)
        unlike = (
            f"dataset {name}: {found.where.relative_to(data_root)} holds {here}, the published one "
            f"{published}: accuracies on it cannot be compared with published ones"
        )
        differs = (unlike,) if found.rows and here != published else ()
        return replace(found.survey, splits=splits, faults=tuple(faults), unlike=differs)


def _size(counts: Iterable[int], classes: int, n_seen: int | None) -> str:
    seen = "" if n_seen is None else f" ({n_seen} seen)"
    return f"{slashed(counts)} pictures of {classes} classes{seen}"


def no_root(name: str, data_root: Path | None, *folders: str) -> str:
    """The fault of a data root that is None or no folder, for the dataset of some folders in it."""
    if data_root is not None:
        return f"dataset {name}: no such data root: {data_root}"
    tops = dict.fromkeys(folder.partition("/")[0] for folder in folders)
    places = " and ".join(f"{top}/" for top in tops)
    return f"dataset {name} needs a data root: the folder that holds {places}"


def checked(
    class_names: Sequence[str], rows: Iterable[Row], images: Path, where: Path, faults: Faults
) -> dict[str, Split]:
    """The splits of listed pictures, each of which is looked at without being read.

    Args:
        class_names: of the labels.
        rows: what was listed; paths that leave the folder of pictures are told and left out.
        images: the folder of pictures.
        where: the list, for messages.
        faults: told of pictures that are in two splits or under two labels, that leave the folder,
            are missing, empty or too large, of a missing folder, and of fewer than two classes.
    """
    pictures: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    labels: dict[str, list[int]] = {split: [] for split in SPLITS}
    files: dict[str, Path] = {}
    first: dict[str, tuple[str, int]] = {}
    leaked, torn, outside = set(), set(), set()
    for split, path, label in rows:
        if not is_inside(path):
            outside.add(path)
            continue
        pictures[split].append(Picture(path, files.setdefault(path, images / path)))
        labels[split].append(label)
        plain = posixpath.normpath(path)  # "a//b", "./a/b" and "a/b" are one
        first_split, first_label = first.setdefault(plain, (split, label))
        if split != first_split:
            leaked.add(plain)
        if label != first_label:
            torn.add(plain)
    faults.tell(where, "picture", sorted(leaked), "in more than one split")
    faults.tell(where, "picture", sorted(torn), "under two labels")
    faults.tell(images, "picture path", map(repr, sorted(outside)), "outside of the folder")
    if images.is_dir():
        _look_at(files, images, faults)
    else:
        faults.append(f"{images}: no such folder")
    if len(class_names) < 2 and not faults:
        faults.append(f"{where}: must have at least 2 classes, has {len(class_names)}")
    return {
        split: Split(tuple(pictures[split]), np.array(labels[split], dtype=np.int64))
        for split in SPLITS
    }


def _look_at(files: Mapping[str, Path], images: Path, faults: Faults) -> None:
    """Tell of files that are not there, files without content, and files that are too large."""
    sizes = {path: _file_size(file) for path, file in sorted(files.items())}
    faults.tell(images, "missing picture", [path for path, size in sizes.items() if size < 0])
    faults.tell(images, "picture of zero bytes", [p for p, size in sizes.items() if size == 0])
    large = [path for path, size in sizes.items() if size > LARGEST_FILE]
    faults.tell(images, "picture", large, f"larger than {LARGEST_FILE >> 20} MiB")


def _file_size(path: Path) -> int:
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


def by_hash(paths: Iterable[str]) -> list[str]:
    """Paths in the order of their SHA-256: as good as shuffled, and the same on every machine."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())


def is_file(path: Path, faults: Faults) -> bool:
    """Whether there is a file to be opened (no pipe, which would not end); told where not."""
    if path.is_file():
        return True
    faults.append(f"{path}: no such file")
    return False


def read_lines(path: Path, faults: Faults) -> list[str]:
    """The non-empty lines of a list, without the space around them."""
    text = _read(path, faults)
    if text is None:
        return []
    lines = [line.strip() for line in text.split("\n")]
    if not any(lines):
        faults.append(f"{path}: is empty")
    return [line for line in lines if line]


def read_object(path: Path, of: str, faults: Faults) -> dict[str, Any] | None:
    """A JSON file's object; None where there is none.

    Args:
        of: what it must be an object of, for messages.
    """
    text = _read(path, faults)
    if text is None:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as why:
        faults.append(f"{path}: is not JSON: {why}")
        return None
    if not isinstance(document, dict):
        faults.append(f"{path}: must be an object of {of}, is {json_kind(document)}")
        return None
    return document


def json_kind(value: Any) -> str:
    """What a value of a JSON file is, in words."""
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return "an empty list" if value == [] else names.get(type(value), type(value).__name__)


def _read(path: Path, faults: Faults) -> str | None:
    """The text of a list; None where it cannot be read."""
    if not is_file(path, faults):
        return None
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise OSError(errno.EFBIG, f"it has more than {LARGEST_FILE >> 20} MiB")
        return content.decode("utf-8-sig")
    except OSError as why:
        faults.append(f"{path}: cannot be read: {why.strerror}")
    except UnicodeDecodeError:
        faults.append(f"{path}: is not UTF-8 text")
    return None
