"""Read custom image folders: a directory per class, with optional splits and class names."""

import os
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from ship.datasets.base import (
    SPLITS,
    DatasetError,
    DatasetScan,
    Faults,
    clean_class_name,
    shorten_list,
)
from ship.datasets.folders import SUFFIXES, ends_in, list_directories
from ship.datasets.layouts import PHOTO, Listing, is_inside, require_data_root, sort_by_hash
from ship.datasets.lists import (
    SEPARATORS,
    find_repeated,
    read_class_names,
    read_few_shot,
    read_split,
)

PREFIX: Final = "image_folder:"
"""Prefix of dataset names: image_folder:NAME is the folder data_root/NAME."""
MIN_IMAGES_PER_CLASS: Final = 3
"""Minimum number of images per class if the folder has no splits: one each for train, val, test."""
_CALLED: Final = " or ".join(f"class_names{ending}" for ending in SEPARATORS)
_UNREAD: Final = (".heic", ".heif", ".hif")
"""Suffixes of images that Pillow can read only with a plugin."""
_UNUSED: Final = {
    "class folder": "with images in several subfolders, all read as one class",
    "folder": "next to train, val and test, ignored (remove it, or move it into these three)",
    "file": "ignored, in a format that Pillow cannot read (save as JPEG or PNG)",
    "class": "without an image in val, ignored by selection (selection: none needs no val)",
    "link": "not followed, to the dataset's folder or one of its parents",
    "path": "skipped: hidden, read before, or without the suffix of an image",
}
"""Kinds of entries that are ignored or read in an unusual way: noun -> description for messages.

All are reported as warnings, except for the last, which is a note.
"""


@dataclass(frozen=True)
class ImageFolder:
    """data_root/NAME with one directory per class, and images at any depth below it.

    Links are followed, each directory once per class, except for links to the folder itself or to a
    folder that contains it. Skipped files, and directories of images below a class directory, are
    reported as notes and warnings.

    If there are subfolders train/, val/ and test/, they are the splits and contain the class
    directories. Otherwise each class is split 50/20/30 percent by a hash of its images' paths, so
    the split is the same on every machine. The sizes of val and test are rounded to the nearest
    image, at least one; train gets the rest. Labels follow the sorted directories.

    Attributes:
        class_names: File of class names. None uses class_names.csv or class_names.txt in the
            folder, or else the names of the directories.
        split: File in CoOp's format with the class and split of images in the folder. The
            directories are then ignored. Its key `few_shot` may list the training images of each
            seed. None uses the directories.
        split_seed: Seed of the 50/20/30 split. 0 hashes only the paths.
    """

    class_names: str | None = None
    split: str | None = None
    split_seed: int = 0
    template: ClassVar[str] = PHOTO

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """List the directories and check the size of every image."""
        relative = name.removeprefix(PREFIX)
        if not is_inside(relative):
            rule = f"NAME of {PREFIX}NAME must be a folder inside the data root"
            raise DatasetError(f"dataset {name!r}: {rule}")
        folder = require_data_root(name, data_root, relative) / relative
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
        if self.split is not None:
            return self._scan_split_file(folder, Path(self.split))
        reader = _Reader(folder, self.split_seed)
        entries, faults = reader.list_images(), reader.faults
        name_of = {directory: clean_class_name(directory) for _, _, directory in entries}
        directories = sorted(name_of, key=lambda directory: (name_of[directory], directory))
        folder_names = tuple(name_of[directory] for directory in directories)
        lists = _name_files(folder) if self.class_names is None else [Path(self.class_names)]
        files = [path.name for path in lists if len(lists) > 1]
        faults.add(folder, "list", files, "of class names, but only one is allowed")
        if lists and reader.directories:
            name_of |= read_class_names(lists[0], reader.directories, faults)
        names = tuple(name_of[directory] for directory in directories)
        faults.add_same_names(lists[0] if lists else folder, names, directories)
        label_of = {directory: label for label, directory in enumerate(directories)}
        rows = [(split, path, label_of[directory]) for split, path, directory in entries]
        rows.sort(key=lambda row: (row[2], row[1]))
        warnings, notes = Faults(), Faults()
        if self.class_names is None:
            misnamed = _nearly_name_files(folder)
            what = f"not read as class names (rename it to {_CALLED})"
            warnings.add(folder, "file", misnamed, what)
        for noun, what in _UNUSED.items():
            lines = notes if noun == "path" else warnings
            lines.add(folder, noun, sorted(reader.unused[noun]), what)
        scan = DatasetScan(
            names,
            warnings=(*warnings,),
            notes=(*notes,),
            split_version=f"split_seed {self.split_seed}" if self.split_seed else "",
            custom_split=reader.split,
            folder_names=folder_names if names != folder_names else (),
        )
        return Listing(scan, folder, folder, rows).check_images(faults)

    def _scan_split_file(self, folder: Path, path: Path) -> DatasetScan:
        """Scan the images that a split file lists, whatever their directories are.

        Args:
            folder: The folder.
            path: Path of the split file.
        """
        faults, warnings = Faults(), Faults()
        rows, names = read_split(path, faults)
        ok = not faults  # otherwise the index of a name may not be its label
        for split in SPLITS:
            part = [row for row in rows if row[0] == split]
            repeats = find_repeated(posixpath.normpath(image) for _, image, _ in part)
            faults.add(path, "image", repeats, f"more than once in {split}")
            labels = {label for _, _, label in part}
            lacking = [name for label, name in enumerate(names) if label not in labels]
            if split == "val":
                warnings.add(path, "class", lacking if ok else (), _UNUSED["class"])
                continue
            faults.add(path, "class", lacking if ok else (), f"without an image in {split}")
        ignored = [file.name for file in _name_files(folder)]
        warnings.add(folder, "list", ignored, f"of class names ignored: {path} has the names")
        list_faults = Faults()
        few_shot = read_few_shot(path, list_faults)
        scan = DatasetScan(
            names,
            warnings=(*warnings,),
            split_version=path.name,
            custom_split=f"as in {path}",
            few_shot=few_shot,
        )
        checked = Listing(scan, folder, path, rows).check_images(faults)
        if not faults:  # otherwise some images may be missing from the splits
            list_faults.add_few_shot(path, checked)
        head = f"{path}: "  # all faults name the list, also those of images missing in the folder
        lines = (head + line.removeprefix(head) for line in (*checked.faults, *list_faults))
        return replace(checked, faults=tuple(lines))


DEFAULT_FOLDER: Final = ImageFolder()
"""An image folder with default options."""


def _name_files(folder: Path) -> list[Path]:
    """Return the files of class names in a folder."""
    paths = [folder / f"class_names{ending}" for ending in SEPARATORS]
    return [path for path in paths if os.path.lexists(path)]  # a dangling link must be reported


def _nearly_name_files(folder: Path) -> list[str]:
    """Return files with almost the right name, e.g. "classnames.txt" and "Class-Names.CSV"."""
    pattern = re.compile(r"class[ _-]?names?\.\w+", re.IGNORECASE)
    paths = {path for path in folder.iterdir() if pattern.fullmatch(path.name)}
    return sorted(path.name for path in paths - {*_name_files(folder)} if not path.is_dir())


class _Reader:
    """Reader of a custom image folder.

    Attributes:
        folder: The folder.
        seed: Seed of the split if the folder has none.
        faults: Faults of the folder.
        split: Description of the split.
        directories: Names of the class directories. Empty before list_images().
        unused: Noun of _UNUSED -> paths of such entries.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.faults = folder, seed, Faults()
        suffix = f" and split_seed {seed}" if seed else ""
        self.split = f"50/20/30 percent of each class, by a hash of the paths{suffix}"
        self.directories: list[str] = []
        self.unused: dict[str, list[str]] = defaultdict(list)

    def list_images(self) -> list[tuple[str, str, str]]:
        """Return split, path relative to the folder, and class directory of each image."""
        names = list_directories(self.folder)
        has_splits = set(SPLITS) <= set(names)
        other_names = [name for name in names if name not in SPLITS]
        misnamed: list[str] = []
        if not has_splits:
            # A folder that has only some of train, val and test is an incomplete split.
            misnamed = self._misnamed_splits(names) if other_names else names
        if misnamed:
            rule = "name them train, val (may be empty) and test"
            self.faults.append(f"{self.folder}: {shorten_list(misnamed)} look like splits; {rule}")
            return []
        images = {
            (split, directory): self._images(f"{split}/{directory}".lstrip("/"))
            for split in (SPLITS if has_splits else ("",))
            for directory in list_directories(self.folder / split)
        }
        self.directories = sorted({directory for _, directory in images})
        if has_splits:
            self.split = "as in the folders train, val and test"
            if self.seed:
                rule = "split_seed cannot be combined with the folders train, val and test"
                self.faults.append(f"{self.folder}: {rule}, got {self.seed}")
            self.unused["folder"] += other_names
            for split in SPLITS:
                lacking = [name for name in self.directories if not images.get((split, name))]
                if split == "val":  # ship.requirements checks whether a trial needs it
                    self.unused["class"] += lacking
                    continue
                self.faults.add(self.folder, "class", lacking, f"without an image in {split}")
        else:
            sizes = {name: len(paths) for (_, name), paths in images.items()}
            small = [f"{name} ({n})" for name, n in sizes.items() if n < MIN_IMAGES_PER_CLASS]
            what = f"with fewer than {MIN_IMAGES_PER_CLASS} images"
            self.faults.add(self.folder, "class", small, what)
        rows = []
        for (where, directory), paths in images.items():
            parts = {where: paths} if has_splits else split_by_hash(paths, self.seed)
            rows += [(split, path, directory) for split, part in parts.items() for path in part]
        return rows

    def _misnamed_splits(self, directories: list[str]) -> list[str]:
        """Return the directories that look like splits: "train" in any case, and similar ones.

        A similar directory has at least two folder names in common with it.
        """
        train = next((name for name in directories if name.lower() == "train"), None)
        folders = set(list_directories(self.folder / train)) if train else set()
        if len(folders) < 2:  # avoids listing the other directories, which may have many images
            return []
        shared = {name: folders & {*list_directories(self.folder / name)} for name in directories}
        misnamed = [name for name, common in shared.items() if len(common) > 1]
        return misnamed if len(misnamed) > 1 else []

    def _images(self, directory: str) -> list[str]:
        """Return the paths of the images below a class directory, sorted."""
        paths: list[str] = []
        parents = (self.folder, *self.folder.absolute().parents, *self.folder.resolve().parents)
        ancestors = {_identity(path) for path in parents}
        seen: set[tuple[int, int]] = set()
        root = self.folder / directory
        n_below = 0
        for parent, subfolders, names in os.walk(root, followlinks=True):
            subpath = Path(parent).relative_to(self.folder)
            identity = _identity(Path(parent))
            if identity in ancestors or identity in seen:
                self.unused["link" if identity in ancestors else "path"].append(subpath.as_posix())
                subfolders.clear()
                continue
            seen.add(identity)
            hidden = [name for name in subfolders if name.startswith(".")]
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            images = {name for name in names if ends_in(SUFFIXES, name)}
            unreadable = {name for name in names if ends_in(_UNREAD, name)}
            skipped_names = {*hidden, *names} - images - unreadable
            paths += [(subpath / name).as_posix() for name in images]
            self.unused["file"] += [(subpath / name).as_posix() for name in unreadable]
            self.unused["path"] += [(subpath / name).as_posix() for name in skipped_names]
            if images and Path(parent) != root:
                n_below += 1
        if n_below > 1:
            self.unused["class folder"].append(f"{directory} ({n_below} folders)")
        return sorted(paths)


def split_by_hash(paths: list[str], seed: int = 0) -> dict[str, list[str]]:
    """Split the images of a class 50/20/30 by the hash of each path (see ImageFolder)."""
    order = sort_by_hash(paths, f"{seed} " if seed else "")
    n_val, n_test = (max(1, round(share * len(paths))) for share in (0.2, 0.3))
    return {
        "val": order[:n_val],
        "test": order[n_val : n_val + n_test],
        "train": order[n_val + n_test :],
    }


def _identity(folder: Path) -> tuple[int, int]:
    """Return the device and inode of a directory, which are the same for all links to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino
