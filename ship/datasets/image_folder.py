"""A folder of one's own: one directory a class, split already or by a fixed seed."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ship.datasets.base import (
    SPLITS,
    clean_class_name,
    escapes,
    number,
    picture_faults,
    some,
)
from ship.datasets.faults import same_name_faults
from ship.datasets.passed_over import FOREIGN, PassedOver
from ship.datasets.survey import SUFFIXES, Survey, make_splits

PREFIX: Final = "image_folder:"
"""A dataset called image_folder:NAME is the folder data_root/NAME."""

SMALLEST_CLASS: Final = 3
"""Pictures that a class needs for one each in train, val and test."""

Files = dict[str, dict[str, list[str]]]
"""split -> class directory -> picture paths relative to the dataset's folder."""


@dataclass(frozen=True)
class ImageFolder:
    """data_root/NAME with one directory a class, pictures at any depth below it.

    Links are followed, each directory once for a class, but none that leads to the folder itself
    or to one that holds it. What is passed over, and directories of pictures below a class's own,
    are told as notes and warnings.

    With the sub-folders train/, val/ and test/, each holds the class directories and is taken as
    it stands. Without, every class is split 50/20/30 per cent (val and test rounded to the nearest
    picture, at least one; train gets the rest) by a hash of its pictures' paths: the split is the
    same on every machine, and it has no seed to choose. Labels follow the sorted class names.
    """

    template: str = "a photo of a {}."

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """List the directories and look at every picture's size."""
        folder, fault = _folder(name, data_root)
        if fault:
            return Survey(faults=(fault,))
        passed_over = PassedOver()
        files, faults = _list(folder, passed_over)
        class_names, more = _class_names(files, rejected=bool(faults))
        paths = [path for classes in files.values() for found in classes.values() for path in found]
        faults += more + picture_faults(folder, paths)
        label_of = {class_name: label for label, class_name in enumerate(class_names)}
        rows = {
            split: sorted(
                (
                    (path, label_of[clean_class_name(directory)])
                    for directory, found in classes.items()
                    for path in found
                ),
                key=lambda row: (row[1], row[0]),
            )
            for split, classes in files.items()
        }
        lines = tuple(f"{folder}: {fault}" for fault in faults)
        return Survey(
            class_names,
            make_splits(folder, rows),
            lines,
            warnings=tuple(f"{folder}: {line}" for line in passed_over.warnings()),
            notes=tuple(f"{folder}: {line}" for line in passed_over.notes()),
            own_split=True,
        )


def fixed_split(paths: list[str]) -> dict[str, list[str]]:
    """Split one class's picture paths 50/20/30 by the hash of each path (see ImageFolder)."""
    shuffled = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    n_val = max(1, round(0.2 * len(paths)))
    n_test = max(1, round(0.3 * len(paths)))
    return {
        "val": shuffled[:n_val],
        "test": shuffled[n_val : n_val + n_test],
        "train": shuffled[n_val + n_test :],
    }


def _folder(name: str, data_root: Path | None) -> tuple[Path, str]:
    """The dataset's folder, and what is wrong with it ("" if nothing)."""
    relative = name.removeprefix(PREFIX)
    if not relative or escapes(relative):
        must = f"NAME of {PREFIX}NAME must be a folder inside the data root"
        return Path(), f"dataset {name!r}: {must}"
    if data_root is None:
        return Path(), f"dataset {name} needs a data root: the folder that holds {relative}/"
    folder = data_root / relative
    return folder, "" if folder.is_dir() else f"dataset {name}: no such folder: {folder}"


def _list(folder: Path, passed_over: PassedOver) -> tuple[Files, list[str]]:
    """The pictures by split and class, and faults of the layout."""
    directories = _directories(folder)
    if not set(SPLITS) <= set(directories):
        absent = [split for split in SPLITS if split not in directories]
        if directories and set(directories) <= set(SPLITS):
            return {}, [f"has {some(directories)} but not {some(absent)}: give all three"]
        if alike := _misnamed_splits(folder, directories):
            what = f"{some(alike)} hold folders of the same names, as splits do"
            return {}, [f"{what}: there must be three, called train, val and test"]
        return _split_here(folder, directories, passed_over)
    others = [directory for directory in directories if directory not in SPLITS]
    faults = [f"directories beside train, val and test: {some(others)}"] if others else []
    files = {
        split: {
            directory: _pictures(folder, f"{split}/{directory}", passed_over)
            for directory in _directories(folder / split)
        }
        for split in SPLITS
    }
    everywhere = {directory for classes in files.values() for directory in classes}
    for split, classes in files.items():
        lacking = sorted(everywhere - {name for name, paths in classes.items() if paths})
        if lacking:
            faults.append(f"{split} has no picture of {number(lacking, 'class')}: {some(lacking)}")
    return files, faults


def _split_here(
    folder: Path, directories: list[str], passed_over: PassedOver
) -> tuple[Files, list[str]]:
    files: Files = {split: {} for split in SPLITS}
    small = []
    for directory in directories:
        paths = _pictures(folder, directory, passed_over)
        if len(paths) < SMALLEST_CLASS:
            small.append(f"{directory} ({len(paths)})")
            continue
        for split, part in fixed_split(paths).items():
            files[split][directory] = part
    if small:
        return files, [f"classes with fewer than {SMALLEST_CLASS} pictures: {some(small)}"]
    return files, []


def _misnamed_splits(folder: Path, directories: list[str]) -> list[str]:
    """A directory "train", whatever its case, and those that share two or more folders with it."""
    train = next((name for name in directories if name.lower() == "train"), None)
    inside = set(_directories(folder / train)) if train else set()
    if len(inside) < 2:
        return []
    alike = [name for name in directories if len(inside & set(_directories(folder / name))) > 1]
    return alike if len(alike) > 1 else []


def _directories(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _pictures(folder: Path, directory: str, passed_over: PassedOver) -> list[str]:
    found: list[str] = []
    holding = (folder, *folder.absolute().parents, *folder.resolve().parents)
    above = {_identity(path) for path in holding}
    seen: set[tuple[int, int]] = set()
    for parent, below, names in os.walk(folder / directory, followlinks=True):
        which = _identity(Path(parent))
        if which in above or which in seen:
            links = passed_over.upward if which in above else passed_over.again
            links.append(Path(parent).relative_to(folder).as_posix())
            below.clear()
            continue
        seen.add(which)
        hidden = [name for name in below if name.startswith(".")]
        here = Path(parent).relative_to(folder)
        passed_over.hidden_folders += [(here / name).as_posix() for name in hidden]
        below[:] = [name for name in below if name not in hidden]
        before = len(found)
        for name in names:
            path = (here / name).as_posix()
            if name.startswith("."):
                passed_over.hidden.append(path)
            elif (suffix := Path(name).suffix.lower()) in SUFFIXES:
                found.append(path)
            elif suffix in FOREIGN:
                passed_over.foreign.append(path)
            else:
                passed_over.other.append(path)
        if len(found) > before and Path(parent) != folder / directory:
            passed_over.below[directory] += 1
    return sorted(found)


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a directory from all others, whichever links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _class_names(files: Files, *, rejected: bool) -> tuple[tuple[str, ...], list[str]]:
    """Cleaned names, sorted, and faults; `rejected`: classes were left out, which is a fault."""
    directories = {directory for classes in files.values() for directory in classes}
    faults = same_name_faults(sorted(directories))
    names = sorted({clean_class_name(directory) for directory in directories})
    if files and len(names) < 2 and not rejected:
        faults.append(f"needs at least 2 class directories, found {len(names)}")
    return tuple(names), faults
