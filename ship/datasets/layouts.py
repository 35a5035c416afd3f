"""Layouts of published datasets, and the checks of images that all layouts share.

A layout is a class that reads lists or folders, and returns (split, path, label) for each image.
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
    DatasetScan,
    Faults,
    ImageFile,
    Split,
    clean_class_name,
)
from ship.datasets.lists import MAX_FILE_BYTES, Row, read_lines, read_split

PHOTO: Final = "a photo of a {}."
_DRIVE: Final = re.compile(r"[A-Za-z]:/")


@dataclass(frozen=True)
class Listing:
    """The images that lists or folders name, before their files are checked.

    Attributes:
        scan: DatasetScan without splits, faults and differences.
        images: Folder of the images, which the paths of `rows` are relative to.
        where: File or folder that determines the class and split of each image.
        rows: Split, path and label of each image.
        counts: Numbers of images to compare with the published ones. None uses those of train, val
            and test.
    """

    scan: DatasetScan
    images: Path
    where: Path
    rows: Sequence[Row] = ()
    counts: tuple[int, ...] | None = None

    def check_images(self, faults: Faults) -> DatasetScan:
        """Check all images without reading them, and return the scan with its splits and faults.

        Faults are images in two splits or with two labels, paths outside of the folder (their
        images are omitted), missing, empty or too large files, a missing folder, and fewer than two
        classes.

        Args:
            faults: Faults of the lists. Faults of the images are added.
        """
        files = {path: self.images / path for _, path, _ in self.rows if is_inside(path)}
        uses: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for split, path, label in self.rows:
            if path in files:
                uses[posixpath.normpath(path)].add((split, label))  # "a//b", "./a/b" are "a/b"
        in_two_splits = [
            path for path, pairs in uses.items() if len({split for split, _ in pairs}) > 1
        ]
        ambiguous = [path for path, pairs in uses.items() if len({label for _, label in pairs}) > 1]
        outside_paths = {repr(path) for _, path, _ in self.rows if path not in files}
        faults.add(self.where, "image", sorted(in_two_splits), "in more than one split")
        faults.add(self.where, "image", sorted(ambiguous), "under two labels")
        faults.add(self.images, "image path", sorted(outside_paths), "outside of the folder")
        _check_files(files, self.images, faults)
        if (n := len(self.scan.class_names)) < 2 and not faults:
            faults.append(f"{self.where}: must have at least 2 classes, got {n}")
        splits = {}
        for split in SPLITS:
            pairs = [row[1:] for row in self.rows if row[0] == split and row[1] in files]
            labels = np.array([label for _, label in pairs], dtype=np.int64)
            splits[split] = Split(tuple(ImageFile(path, files[path]) for path, _ in pairs), labels)
        return replace(self.scan, splits=splits, faults=tuple(faults))


def _check_files(files: Mapping[str, Path], images: Path, faults: Faults) -> None:
    """Report files that are missing, empty or too large."""
    if not images.is_dir():
        faults.append(f"{images}: no such folder")
        return
    sizes = {path: get_file_size(file) for path, file in sorted(files.items())}
    faults.add(images, "missing image", [path for path, size in sizes.items() if size < 0])
    faults.add(images, "image of zero bytes", [p for p, size in sizes.items() if size == 0])
    large_files = [path for path, size in sizes.items() if size > MAX_FILE_BYTES]
    faults.add(images, "image", large_files, f"larger than {MAX_FILE_BYTES >> 20} MiB")


def get_file_size(path: Path) -> int:
    """Return the size of a file in bytes, or -1 if there is no regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: surrogates in the path
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def is_inside(path: str) -> bool:
    """Return True if a path is relative and does not leave its folder, on any operating system.

    Only the text of the path is checked. Links on the disk are allowed: users may link datasets.
    """
    posix = path.replace("\\", "/")
    leaves = posix.startswith("/") or ".." in posix.split("/") or _DRIVE.match(posix)
    return bool(path) and "\0" not in path and not leaves


def sort_by_hash(paths: Iterable[str], salt: str = "") -> list[str]:
    """Sort paths by their SHA-256, a pseudo-random order that is the same on every machine.

    Args:
        paths: Paths to sort.
        salt: Prefix of each path before hashing. Different salts result in different orders.
    """
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(salt + path)).digest())


def count_images(splits: Mapping[str, Split]) -> tuple[int, ...]:
    """Return the numbers of images in train, val and test."""
    return tuple(len(splits[split]) for split in SPLITS)


def format_counts(counts: Iterable[int]) -> str:
    """Join numbers by slashes: "4128/1649/2465" for the images of train, val and test."""
    return "/".join(map(str, counts))


def require_data_root(name: str, data_root: Path | None, *folders: str) -> Path:
    """Return the data root after checking that it is a folder.

    Args:
        name: Name of the dataset, for messages.
        data_root: Data root as configured. None if none is configured.
        folders: Folders of the dataset below the data root, for messages.

    Raises:
        DatasetError: The data root is None, or not a folder.
    """
    if data_root is None:
        names = " and ".join(dict.fromkeys(f"{folder.partition('/')[0]}/" for folder in folders))
        raise DatasetError(f"dataset {name} needs a data root: the folder that contains {names}")
    if not data_root.is_dir():
        raise DatasetError(f"dataset {name}: no such data root: {data_root}")
    return data_root


@dataclass(frozen=True)
class Published(ABC):
    """A published dataset below the data root. Each subclass reads one layout of files.

    Attributes:
        folder: Folder of the lists, below the data root.
        images: Folder of the images, below `folder`. "" is `folder` itself.
        counts: Numbers of images in the published train, val and test split.
        classes: Number of classes.
        template: Prompt with one {} for a class name.
        n_seen: Number of seen classes. None if no official list assigns classes to seen and unseen.
    """

    folder: str
    images: str
    counts: tuple[int, int, int]
    classes: int
    template: str = PHOTO
    n_seen: int | None = field(default=None, kw_only=True)

    @abstractmethod
    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read lists and folders. Those that cannot be read become faults.

        Args:
            data_root: Folder that contains the datasets' folders.
            faults: List that faults are added to.
        """

    @property
    def image_dir(self) -> str:
        """Folder of the images, relative to the data root."""
        return f"{self.folder}/{self.images}".rstrip("/")

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """Read the lists, check the size of every image, and compare with the published numbers."""
        root = require_data_root(name, data_root, self.image_dir, self.folder)
        faults = Faults()
        content = self.read(root, faults)
        scan = content.check_images(faults)
        actual = content.counts or count_images(scan.splits), len(scan.class_names), scan.n_seen
        published = self.counts, self.classes, self.n_seen
        if not content.rows or actual == published:
            return scan
        where = content.where.relative_to(root)
        difference = (
            f"dataset {name}: {where} has {_describe_size(*actual)}, but the published dataset has "
            f"{_describe_size(*published)}: accuracies are not comparable with published ones"
        )
        return replace(scan, differences=(difference,))


def _describe_size(counts: tuple[int, ...], classes: int, n_seen: int | None) -> str:
    seen = "" if n_seen is None else f" ({n_seen} seen)"
    return f"{format_counts(counts)} images of {classes} classes{seen}"


@dataclass(frozen=True)
class CoOpDataset(Published):
    """A dataset in CoOp's layout, with one file that lists all splits.

    The file is data_root/folder/split_zhou_SPLIT.json and contains
    {"train"|"val"|"test": [[path, label, class name], ...]}.

    Attributes:
        split: SPLIT in the file's name.
    """

    split: str = ""

    @property
    def split_file(self) -> str:
        """Name of the split file in data_root/folder. CoOp's authors publish it."""
        return f"split_zhou_{self.split}.json"

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read the split file."""
        path = data_root / self.folder / self.split_file
        rows, names = read_split(path, faults)
        return Listing(DatasetScan(names), data_root / self.image_dir, path, rows)


@dataclass(frozen=True)
class Aircraft(Published):
    """FGVC-Aircraft's original lists in data_root/folder, or in the archive's data/ below it.

    images_variant_{train,val,test}.txt have "<id> <variant>" lines, and images/<id>.jpg are the
    images. Labels follow the lines of variants.txt, as in CoOp.
    """

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read the lists."""
        folder = data_root / self.folder
        if (folder / "data" / "variants.txt").is_file():
            folder = folder / "data"
        variants = read_lines(folder / "variants.txt", faults)
        faults.add_same_names(folder / "variants.txt", variants)
        label_of = {variant: label for label, variant in enumerate(variants)}
        rows = []
        for split in SPLITS:
            path, bad_lines = folder / f"images_variant_{split}.txt", []
            for line in read_lines(path, faults):
                image, _, variant = line.partition(" ")
                if (label := label_of.get(variant.strip())) is None:
                    bad_lines.append(repr(line))
                else:
                    rows.append((split, f"{image}.jpg", label))
            if variants:  # without variants, every line would be reported
                faults.add(path, "line", bad_lines, "must be '<id> <variant of variants.txt>'")
        scan = DatasetScan(tuple(clean_class_name(variant) for variant in variants))
        return Listing(scan, folder / self.images, folder, rows)
