"""Read custom image folders: one folder per class, with optional splits and class names."""

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
from ship.datasets.folders import SUFFIXES, ends_in, list_subfolders
from ship.datasets.layouts import (
    PHOTO_TEMPLATE,
    Listing,
    is_inside,
    require_data_root,
    sort_by_hash,
)
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
_NAME_FILES: Final = " or ".join(f"class_names{ending}" for ending in SEPARATORS)
_UNREADABLE: Final = (".heic", ".heif", ".hif")
"""Suffixes of images that Pillow reads only with a plugin."""
_UNUSUAL: Final = {
    "class folder": "with images in several subfolders, all read as one class",
    "folder": "next to train, val and test, ignored (remove it, or move its images into these)",
    "file": "ignored, in a format that Pillow cannot read (save as JPEG or PNG)",
    "class": "ignored by selection for lack of images in val (selection: none does not use val)",
    "link": "to the dataset's folder or one of its parents, not followed",
    "path": "skipped, being hidden, read before, or without the suffix of an image",
}
"""Kinds of entries that are ignored or read in an unusual way: noun -> description for messages.

A "path" is reported as a note, all others as warnings.
"""


@dataclass(frozen=True)
class ImageFolder:
    """data_root/NAME with one folder per class, and images at any depth below it.

    Links are followed, except for links to data_root/NAME itself or to one of its parents. If
    several links in one class lead to the same folder, it is read once. Notes and warnings report
    skipped files, and classes with images in several subfolders.

    If there are subfolders train/, val/ and test/, they are the splits and contain the class
    folders. Otherwise each class is split into 50% train, 20% val and 30% test by a hash of its
    images' paths, so the split is the same on every machine. The sizes of val and test are rounded
    to the nearest image, at least one; train gets the rest. Labels follow the sorted names of the
    class folders.

    Attributes:
        class_names: File of class names. None uses class_names.csv or class_names.txt in the
            folder, or else the names of the class folders.
        split: File in CoOp's format that lists the images with their class and split; the names of
            folders then have no meaning. Its key `few_shot` may list the training images of
            each seed. None uses the class folders.
        split_seed: Seed of the 50/20/30 split, hashed together with each path. 0 hashes the paths
            only.
    """

    class_names: str | None = None
    split: str | None = None
    split_seed: int = 0
    template: ClassVar[str] = PHOTO_TEMPLATE

    def scan(self, name: str, data_root: Path | None) -> DatasetScan:
        """List the images, check that no file is missing or empty, and read the class names."""
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
        name_of = {class_folder: clean_class_name(class_folder) for _, _, class_folder in entries}
        class_folders = sorted(name_of, key=lambda key: (name_of[key], key))
        folder_names = tuple(name_of[class_folder] for class_folder in class_folders)
        if self.class_names is None:
            name_files = _find_name_files(folder)
        else:
            name_files = [Path(self.class_names)]
        if len(name_files) > 1:
            file_names = [path.name for path in name_files]
            faults.add(folder, "list", file_names, "of class names, but only one is allowed")
        if name_files and reader.class_folders:
            name_of |= read_class_names(name_files[0], reader.class_folders, faults)
        names = tuple(name_of[class_folder] for class_folder in class_folders)
        faults.add_same_names(name_files[0] if name_files else folder, names, class_folders)
        label_of = {class_folder: label for label, class_folder in enumerate(class_folders)}
        rows = [(split, path, label_of[class_folder]) for split, path, class_folder in entries]
        rows.sort(key=lambda row: (row[2], row[1]))
        warnings, notes = Faults(), Faults()
        if self.class_names is None:
            misnamed = _find_misnamed_name_files(folder)
            advice = f"not read as class names (rename it to {_NAME_FILES})"
            warnings.add(folder, "file", misnamed, advice)
        for noun, description in _UNUSUAL.items():
            lines = notes if noun == "path" else warnings
            lines.add(folder, noun, sorted(reader.unusual[noun]), description)
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
        """Scan the images that a split file lists. The names of their folders do not matter.

        Args:
            folder: Folder that contains the images.
            path: Path of the split file.
        """
        faults, warnings = Faults(), Faults()
        rows, names = read_split(path, faults)
        # With faults, labels may be missing, and the index of a name may differ from its label.
        labels_are_valid = not faults
        for split in SPLITS:
            part = [row for row in rows if row[0] == split]
            repeats = find_repeated(posixpath.normpath(image) for _, image, _ in part)
            faults.add(path, "image", repeats, f"more than once in {split}")
            if not labels_are_valid:
                continue
            labels = {label for _, _, label in part}
            lacking = [name for label, name in enumerate(names) if label not in labels]
            if split == "val":
                warnings.add(path, "class", lacking, _UNUSUAL["class"])
            else:
                faults.add(path, "class", lacking, f"without an image in {split}")
        if name_files := _find_name_files(folder):
            ignored = " and ".join(file.name for file in name_files)
            warnings.append(f"{folder}: {ignored} ignored, because {path} contains the class names")
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
        prefix = f"{path}: "  # all faults start with the split file, also those of images
        lines = (prefix + line.removeprefix(prefix) for line in (*checked.faults, *list_faults))
        return replace(checked, faults=tuple(lines))


DEFAULT_FOLDER: Final = ImageFolder()
"""An image folder with default options."""


def _find_name_files(folder: Path) -> list[Path]:
    """Return the files class_names.csv and class_names.txt that a folder contains."""
    paths = [folder / f"class_names{ending}" for ending in SEPARATORS]
    return [path for path in paths if os.path.lexists(path)]  # a dangling link must be reported


def _find_misnamed_name_files(folder: Path) -> list[str]:
    """Return names of files such as "classnames.txt", probably misnamed files of class names."""
    pattern = re.compile(r"class[ _-]?names?\.\w+", re.IGNORECASE)
    paths = {path for path in folder.iterdir() if pattern.fullmatch(path.name)}
    return sorted(path.name for path in paths - {*_find_name_files(folder)} if not path.is_dir())


class _Reader:
    """Reader of a custom image folder.

    Attributes:
        folder: The folder.
        seed: Seed of the hash split, which is used if the folder has no split folders.
        faults: Faults of the folder, complete after list_images().
        split: Description of the split for the scan.
        class_folders: Names of the class folders. Empty before list_images().
        unusual: Noun of _UNUSUAL -> paths of such entries.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.faults = folder, seed, Faults()
        suffix = f" and split_seed {seed}" if seed else ""
        self.split = f"50/20/30 percent of each class, by a hash of the paths{suffix}"
        self.class_folders: list[str] = []
        self.unusual: dict[str, list[str]] = defaultdict(list)

    def list_images(self) -> list[tuple[str, str, str]]:
        """Return split, path relative to the folder, and class folder of each image.

        Faults are added to `faults`. If the subfolders look like splits that are misnamed or
        incomplete, no image is returned.
        """
        names = list_subfolders(self.folder)
        has_splits = set(SPLITS) <= set(names)
        other_names = [name for name in names if name not in SPLITS]
        if not has_splits and (fault := self._describe_bad_splits(names)):
            self.faults.append(f"{self.folder}: {fault}")
            return []
        images = {
            (split, class_folder): self._list_images(f"{split}/{class_folder}".lstrip("/"))
            for split in (SPLITS if has_splits else ("",))
            for class_folder in list_subfolders(self.folder / split)
        }
        self.class_folders = sorted({class_folder for _, class_folder in images})
        if has_splits:
            self.split = "as in the folders train, val and test"
            if self.seed:
                rule = "split_seed cannot be combined with the folders train, val and test"
                self.faults.append(f"{self.folder}: {rule}, got {self.seed}")
            self.unusual["folder"] += other_names
            for split in SPLITS:
                lacking = [name for name in self.class_folders if not images.get((split, name))]
                if split == "val":  # ship.protocol_rules checks whether a trial needs it
                    self.unusual["class"] += lacking
                    continue
                self.faults.add(self.folder, "class", lacking, f"without an image in {split}")
        else:
            sizes = {name: len(paths) for (_, name), paths in images.items()}
            small = [f"{name} ({n})" for name, n in sizes.items() if n < MIN_IMAGES_PER_CLASS]
            description = f"with fewer than {MIN_IMAGES_PER_CLASS} images"
            self.faults.add(self.folder, "class", small, description)
        rows = []
        for (folder_split, class_folder), paths in images.items():
            by_split = {folder_split: paths} if has_splits else split_by_hash(paths, self.seed)
            for split, selected in by_split.items():
                rows += [(split, path, class_folder) for path in selected]
        return rows

    def _describe_bad_splits(self, names: list[str]) -> str:
        """Describe splits that are misnamed or incomplete. "" if no subfolder looks like a split.

        Args:
            names: Names of the subfolders, without at least one of train, val and test.
        """
        split_like = names if set(names) <= set(SPLITS) else self._find_split_like(names)
        if not set(split_like) <= set(SPLITS):
            rule = "Name them train, val (may be empty) and test"
            return f"{shorten_list(split_like)} look like splits. {rule}"
        if not split_like:
            return ""
        present = [split for split in SPLITS if split in names]
        missing = [split for split in SPLITS if split not in names]
        to_create = ["val (may be empty)" if split == "val" else split for split in missing]
        advice = f"Create {' and '.join(to_create)}"
        if len(present) == 1:
            advice += f", or use {PREFIX}NAME/{present[0]}, whose images are split by a hash"
        fault = f"{' and '.join(missing)} missing among the splits"
        return f"{fault}, got {' and '.join(present)}. {advice}"

    def _find_split_like(self, names: list[str]) -> list[str]:
        """Return the subfolders that look like splits.

        These are "train" (in any case) and the subfolders that share at least two names of inner
        folders with it. The list is empty if no other subfolder looks like "train".
        """
        train = next((name for name in names if name.lower() == "train"), None)
        folders = set(list_subfolders(self.folder / train)) if train else set()
        if len(folders) < 2:  # avoids listing the other subfolders, which may have many images
            return []
        shared = {name: folders & {*list_subfolders(self.folder / name)} for name in names}
        split_like = [name for name, common in shared.items() if len(common) > 1]
        return split_like if len(split_like) > 1 else []

    def _list_images(self, class_folder: str) -> list[str]:
        """Return the sorted paths of the images below a class folder, relative to the folder."""
        paths: list[str] = []
        parents = (self.folder, *self.folder.absolute().parents, *self.folder.resolve().parents)
        ancestors = {_get_identity(path) for path in parents}
        seen: set[tuple[int, int]] = set()
        root = self.folder / class_folder
        n_subfolders = 0  # with images
        for parent, subfolders, names in os.walk(root, followlinks=True):
            subpath = Path(parent).relative_to(self.folder)
            identity = _get_identity(Path(parent))
            if identity in ancestors or identity in seen:
                self.unusual["link" if identity in ancestors else "path"].append(subpath.as_posix())
                subfolders.clear()
                continue
            seen.add(identity)
            hidden = [name for name in subfolders if name.startswith(".")]
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            images = {name for name in names if ends_in(SUFFIXES, name)}
            unreadable = {name for name in names if ends_in(_UNREADABLE, name)}
            skipped_names = {*hidden, *names} - images - unreadable
            paths += [(subpath / name).as_posix() for name in images]
            self.unusual["file"] += [(subpath / name).as_posix() for name in unreadable]
            self.unusual["path"] += [(subpath / name).as_posix() for name in skipped_names]
            if images and Path(parent) != root:
                n_subfolders += 1
        if n_subfolders > 1:
            self.unusual["class folder"].append(f"{class_folder} ({n_subfolders} folders)")
        return sorted(paths)


def split_by_hash(paths: list[str], seed: int = 0) -> dict[str, list[str]]:
    """Split the images of a class into 50/20/30 percent by path hashes (see ImageFolder)."""
    order = sort_by_hash(paths, f"{seed} " if seed else "")
    n_val, n_test = (max(1, round(share * len(paths))) for share in (0.2, 0.3))
    return {
        "val": order[:n_val],
        "test": order[n_val : n_val + n_test],
        "train": order[n_val + n_test :],
    }


def _get_identity(folder: Path) -> tuple[int, int]:
    """Return the device and inode of a folder, which are the same for all links to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino
