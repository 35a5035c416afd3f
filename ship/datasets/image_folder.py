"""A folder of one's own: one directory a class, split already or by a fixed seed."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ship.datasets.base import SPLITS, Faults, some
from ship.datasets.layout import PHOTO, SUFFIXES, by_hash, checked, is_inside, no_root
from ship.datasets.names import clean_class_name, tell_same_names
from ship.datasets.survey import Survey

PREFIX: Final = "image_folder:"
"""A dataset called image_folder:NAME is the folder data_root/NAME."""
SMALLEST_CLASS: Final = 3
"""Pictures that a class needs for one each in train, val and test."""
_UNREAD: Final = frozenset([".heic", ".heif", ".hif"])
"""Endings of pictures that Pillow reads with a plugin alone."""

# What is met below class directories and no picture, or odd: a noun, and what is said of it.
OTHER: Final = ("file", "passed over, whose ending is no picture's")
HIDDEN: Final = ("hidden file", "passed over")
HIDDEN_FOLDER: Final = ("hidden folder", "passed over")
AGAIN: Final = ("folder", "entered once, though links lead to it again")
FOREIGN: Final = ("file", "left out, which Pillow cannot read (save as JPEG or PNG)")
UPWARD: Final = ("link", "not followed, to the dataset's own folder or one that holds it")
NESTED: Final = (
    "class folder",
    "with pictures in several folders below it, all taken for one class",
)

Met = dict[tuple[str, str], list[str]]
"""One of these -> paths."""
Listed = list[tuple[str, str, str]]
"""Split, picture path relative to the dataset's folder, class directory."""


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

    template: str = PHOTO

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """List the directories and look at every picture's size."""
        relative = name.removeprefix(PREFIX)
        if not is_inside(relative):
            must = f"NAME of {PREFIX}NAME must be a folder inside the data root"
            return Survey(faults=(f"dataset {name!r}: {must}",))
        if data_root is None or not data_root.is_dir():
            return Survey(faults=(no_root(name, data_root, relative),))
        folder = data_root / relative
        if not folder.is_dir():
            return Survey(faults=(f"{folder}: no such folder",))
        faults = Faults()
        met: Met = defaultdict(list)
        listed = _list(folder, met, faults)
        directories = sorted({directory for _, _, directory in listed})
        tell_same_names(faults, folder, directories)
        class_names = sorted({clean_class_name(directory) for directory in directories})
        label_of = {own: class_names.index(clean_class_name(own)) for own in directories}
        rows = [(split, path, label_of[directory]) for split, path, directory in listed]
        rows.sort(key=lambda row: (row[2], row[1]))
        return Survey(
            tuple(class_names),
            checked(class_names, rows, folder, folder, faults),
            tuple(faults),
            warnings=_lines(folder, met, FOREIGN, UPWARD, NESTED),
            notes=_lines(folder, met, OTHER, HIDDEN, HIDDEN_FOLDER, AGAIN),
            own_split=True,
        )


def _lines(folder: Path, met: Met, *kinds: tuple[str, str]) -> tuple[str, ...]:
    lines = Faults()
    for noun, what in kinds:
        lines.tell(folder, noun, sorted(met[noun, what]), what)
    return tuple(lines)


def _list(folder: Path, met: Met, faults: Faults) -> Listed:
    """The pictures with their split and class."""
    directories = _directories(folder)
    absent = [split for split in SPLITS if split not in directories]
    if not absent:
        return _given_splits(folder, directories, met, faults)
    if directories and set(directories) <= set(SPLITS):
        what = f"has {some(directories)} but not {some(absent)}: give all three"
    elif alike := _misnamed_splits(folder, directories):
        what = f"{some(alike)} hold folders of the same names, as splits do"
        what = f"{what}: there must be three, called train, val and test"
    else:
        return _split_here(folder, directories, met, faults)
    faults.append(f"{folder}: {what}")
    return []


def _given_splits(folder: Path, directories: list[str], met: Met, faults: Faults) -> Listed:
    others = [directory for directory in directories if directory not in SPLITS]
    faults.tell(folder, "folder", others, "beside train, val and test")
    classes = {split: _directories(folder / split) for split in SPLITS}
    listed = [
        (split, path, directory)
        for split, own in classes.items()
        for directory in own
        for path in _pictures(folder, f"{split}/{directory}", met)
    ]
    everywhere = set().union(*classes.values())
    for split in SPLITS:
        lacking = everywhere - {directory for own, _, directory in listed if own == split}
        faults.tell(folder, "class", sorted(lacking), f"without a picture in {split}")
    return listed


def _split_here(folder: Path, directories: list[str], met: Met, faults: Faults) -> Listed:
    pictures = {directory: _pictures(folder, directory, met) for directory in directories}
    small = [
        f"{own} ({len(paths)})" for own, paths in pictures.items() if len(paths) < SMALLEST_CLASS
    ]
    faults.tell(folder, "class", small, f"with fewer than {SMALLEST_CLASS} pictures")
    return [
        (split, path, directory)
        for directory, paths in pictures.items()
        for split, part in fixed_split(paths).items()
        for path in part
    ]


def fixed_split(paths: list[str]) -> dict[str, list[str]]:
    """Split one class's picture paths 50/20/30 by the hash of each path (see ImageFolder)."""
    shuffled = by_hash(paths)
    n_val = max(1, round(0.2 * len(paths)))
    n_test = max(1, round(0.3 * len(paths)))
    return {
        "val": shuffled[:n_val],
        "test": shuffled[n_val : n_val + n_test],
        "train": shuffled[n_val + n_test :],
    }


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


def _pictures(folder: Path, directory: str, met: Met) -> list[str]:
    """The pictures below a class directory, sorted."""
    found: list[str] = []
    holding = (folder, *folder.absolute().parents, *folder.resolve().parents)
    above, seen = {_identity(path) for path in holding}, set[tuple[int, int]]()
    n_below = 0
    for parent, below, names in os.walk(folder / directory, followlinks=True):
        here, which = Path(parent).relative_to(folder), _identity(Path(parent))
        if which in above or which in seen:
            met[UPWARD if which in above else AGAIN].append(here.as_posix())
            below.clear()
            continue
        seen.add(which)
        met[HIDDEN_FOLDER] += [(here / name).as_posix() for name in below if name.startswith(".")]
        below[:] = [name for name in below if not name.startswith(".")]
        before = len(found)
        for name in names:
            kind = _kind(name)
            (met[kind] if kind else found).append((here / name).as_posix())
        n_below += len(found) > before and Path(parent) != folder / directory
    if n_below > 1:
        met[NESTED].append(f"{directory} ({n_below} folders)")
    return sorted(found)


def _kind(name: str) -> tuple[str, str] | None:
    """What a file is that is no picture, by its name; None for a picture."""
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return HIDDEN
    if suffix in SUFFIXES:
        return None
    return FOREIGN if suffix in _UNREAD else OTHER


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a directory from all others, whichever links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino
