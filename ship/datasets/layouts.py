"""Layouts of published datasets, and checks of image files that all layouts share.

A layout is a subclass of PublishedDataset. Its instances describe the datasets that have this
layout, and its `read` returns the split, path and label of each image as a Listing.
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
from typing import ClassVar, Final

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

PHOTO_TEMPLATE: Final = "a photo of a {}."
# Drive of a Windows path. Without a slash after it, the path is relative to the drive's current
# folder, which is also outside of the dataset.
_DRIVE: Final = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Listing:
    """The images that lists or folders name, before their files are checked.

    Attributes:
        scan: Other information about the dataset, such as class names. `check_images` adds splits
            and faults, and PublishedDataset.scan adds differences.
        image_folder: Folder of the images. The paths of `rows` are relative to it.
        where: File or folder that determines the class and split of each image.
        rows: Split, path and label of each image.
        n_images: Numbers of images to compare with the published ones. None compares those of
            train, val and test. It is set if the published numbers count other parts, such as
            ImageNet's folders.
    """

    scan: DatasetScan
    image_folder: Path
    where: Path
    rows: Sequence[Row] = ()
    n_images: tuple[int, ...] | None = None

    def check_images(self, faults: Faults) -> DatasetScan:
        """Check all image files without reading them, and return the scan with splits and faults.

        Faults are

        - images in two splits or with two labels,
        - paths outside of the folder, whose images are omitted from the splits,
        - a missing folder of images, or else missing, empty and too large files,
        - fewer than two classes, which is checked only if there is no other fault.

        An image that is listed twice with the same split and label is in the split twice, which is
        not a fault here.

        Args:
            faults: Faults of the lists. Those of the images are added to it.
        """
        files = {path: self.image_folder / path for _, path, _ in self.rows if is_inside(path)}
        splits_and_labels: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for split, path, label in self.rows:
            if path in files:
                normalized = posixpath.normpath(path)  # "a//b" and "./a/b" are "a/b"
                splits_and_labels[normalized].add((split, label))
        in_two_splits, ambiguous = [], []
        for path, pairs in sorted(splits_and_labels.items()):
            if len({split for split, _ in pairs}) > 1:
                in_two_splits.append(path)
            if len({label for _, label in pairs}) > 1:
                ambiguous.append(path)
        outside_paths = {repr(path) for _, path, _ in self.rows if path not in files}
        faults.add(self.where, "image", in_two_splits, "in more than one split")
        faults.add(self.where, "image", ambiguous, "under two labels")
        faults.add(self.image_folder, "image path", sorted(outside_paths), "outside of the folder")
        _check_files(files, self.image_folder, faults)
        n_classes = len(self.scan.class_names)
        if n_classes < 2 and not faults:
            faults.append(f"{self.where}: must have at least 2 classes, got {n_classes}")
        splits = {}
        for split in SPLITS:
            part = [row for row in self.rows if row[0] == split and row[1] in files]
            images = tuple(ImageFile(path, files[path]) for _, path, _ in part)
            labels = np.array([label for _, _, label in part], dtype=np.int64)
            splits[split] = Split(images, labels)
        return replace(self.scan, splits=splits, faults=tuple(faults))


def _check_files(files: Mapping[str, Path], image_folder: Path, faults: Faults) -> None:
    """Report missing, empty and too large files, or only the folder if that is missing.

    Args:
        files: Files by their path relative to the folder.
        image_folder: Folder of the files.
        faults: List that the faults are added to.
    """
    if not image_folder.is_dir():
        faults.append(f"{image_folder}: no such folder")
        return
    sizes = {path: get_file_size(file) for path, file in sorted(files.items())}
    missing = [path for path, size in sizes.items() if size < 0]
    empty = [path for path, size in sizes.items() if size == 0]
    large = [path for path, size in sizes.items() if size > MAX_FILE_BYTES]
    faults.add(image_folder, "missing image", missing)
    faults.add(image_folder, "image of zero bytes", empty)
    faults.add(image_folder, "image", large, f"larger than {MAX_FILE_BYTES >> 20} MiB")


def get_file_size(path: Path) -> int:
    """Return the size of a file in bytes, or -1 if there is no regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: surrogates in the path
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def is_inside(path: str) -> bool:
    """Return True if a path is relative and cannot leave its folder, on any operating system.

    Only the text of the path is checked. A path that contains ".." is never inside, even if it
    would lead back into the folder. Links on the disk are allowed: users may link datasets.
    """
    posix = path.replace("\\", "/")
    is_absolute = posix.startswith("/") or _DRIVE.match(posix) is not None
    return bool(path) and "\0" not in path and not is_absolute and ".." not in posix.split("/")


def sort_by_hash(paths: Iterable[str], salt: str = "") -> list[str]:
    """Sort paths by their SHA-256, a pseudo-random order that is the same on every machine.

    Args:
        paths: Paths to sort.
        salt: Prefix of each path before hashing. Different salts result in different orders.
    """
    # fsencode returns the bytes of a file name on disk, which do not depend on the locale that
    # Python has decoded the name with.
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(salt + path)).digest())


def count_images_by_split(splits: Mapping[str, Split]) -> tuple[int, ...]:
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
class PublishedDataset(ABC):
    """A published dataset in a folder of the data root. Subclasses are layouts of its files.

    Attributes:
        folder: Folder of the lists, relative to the data root.
        image_folder: Folder of the images, relative to `folder`. "" is `folder` itself.
        n_images: Numbers of images in the published train, val and test split.
        n_classes: Number of classes.
        template: Prompt with one {} for a class name.
        n_seen: Number of seen classes. None if no official list assigns classes to seen and unseen.
        counted_parts: Names of the parts that `n_images` counts, for messages.
    """

    folder: str
    image_folder: str
    n_images: tuple[int, int, int]
    n_classes: int
    template: str = PHOTO_TEMPLATE
    n_seen: int | None = field(default=None, kw_only=True)
    counted_parts: ClassVar[str] = "train/val/test"

    @abstractmethod
    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read lists and folders. Faults are added for those that cannot be read.

        Args:
            data_root: Folder that contains the datasets' folders.
            faults: List that faults are added to.
        """

    @property
    def image_folder_path(self) -> str:
        """Folder of the images, relative to the data root."""
        return f"{self.folder}/{self.image_folder}".rstrip("/")

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """Read the lists, check the image files, and compare with the published dataset.

        Args:
            name: Name of the dataset, for messages.
            data_root: Folder that contains the datasets' folders. None if none is configured.

        Returns:
            The scan. `differences` has a line if the numbers of images or classes differ from the
            published ones. Nothing is compared if no image is listed.

        Raises:
            DatasetError: The data root is None, or not a folder.
        """
        root = require_data_root(name, data_root, self.image_folder_path, self.folder)
        faults = Faults()
        listing = self.read(root, faults)
        scan = listing.check_images(faults)
        if not listing.rows:  # nothing could be read, and the faults say why
            return scan
        n_images = listing.n_images or count_images_by_split(scan.splits)
        size = (n_images, len(scan.class_names), scan.n_seen)
        published_size = (self.n_images, self.n_classes, self.n_seen)
        if size == published_size:
            return scan
        where = listing.where.relative_to(root)
        difference = (
            f"dataset {name}: {where} has {_describe_size(*size, f' ({self.counted_parts})')}, but "
            f"the published dataset has {_describe_size(*published_size)}: accuracies are not "
            "comparable with published ones"
        )
        return replace(scan, differences=(difference,))


def _describe_size(
    n_images: tuple[int, ...], n_classes: int, n_seen: int | None, parts: str = ""
) -> str:
    """Return the numbers as text: "7057/1764/2967 images{parts} of 200 classes (150 seen)"."""
    seen = "" if n_seen is None else f" ({n_seen} seen)"
    return f"{format_counts(n_images)} images{parts} of {n_classes} classes{seen}"


@dataclass(frozen=True)
class CoOpDataset(PublishedDataset):
    """A dataset in CoOp's layout, with one file that lists all splits.

    The file is data_root/FOLDER/split_zhou_NAME.json, where FOLDER and NAME are the attributes
    `folder` and `split_name`. It contains {"train"|"val"|"test": [[path, label, class name], ...]}.

    Attributes:
        split_name: Name of the dataset in the name of the split file, e.g. "Caltech101".
    """

    split_name: str = ""

    @property
    def split_file(self) -> str:
        """Name of the split file in the folder of the lists. CoOp's authors publish the file."""
        return f"split_zhou_{self.split_name}.json"

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read the split file."""
        path = data_root / self.folder / self.split_file
        rows, names = read_split(path, faults)
        return Listing(DatasetScan(names), data_root / self.image_folder_path, path, rows)


@dataclass(frozen=True)
class Aircraft(PublishedDataset):
    """FGVC-Aircraft with its original lists.

    The lists and the folder of the images are in data_root/FOLDER, where FOLDER is the attribute
    `folder`, or in data_root/FOLDER/data, as in the unpacked archive.

    - images_variant_{train,val,test}.txt have a line "<id> <variant>" per image.
    - variants.txt has a variant per line. Labels follow these lines, as in CoOp.
    - images/<id>.jpg are the images.
    """

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read variants.txt and the list of each split."""
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
                image_id, _, variant = line.partition(" ")
                if (label := label_of.get(variant.strip())) is None:
                    bad_lines.append(repr(line))
                else:
                    rows.append((split, f"{image_id}.jpg", label))
            if variants:  # without variants, every line would be reported
                faults.add(path, "line", bad_lines, "must be '<id> <variant of variants.txt>'")
        scan = DatasetScan(tuple(clean_class_name(variant) for variant in variants))
        return Listing(scan, folder / self.image_folder, folder, rows)
