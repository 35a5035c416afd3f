"""Layouts that are a folder for each class: one's own sets, and those of ImageNet."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ship.datasets.base import SPLITS, DatasetError, Faults, Survey, clean_class_name, some
from ship.datasets.layouts import (
    PHOTO,
    Found,
    Published,
    Row,
    by_hash,
    is_inside,
    read_lines,
    repeated,
    root_of,
)

PREFIX: Final = "image_folder:"
"""A dataset called image_folder:NAME is the folder data_root/NAME."""
SMALLEST_CLASS: Final = 3
"""Pictures that a class needs for one each in train, val and test."""
SUFFIXES: Final = (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png",
                   ".ppm", ".tif", ".tiff", ".webp")  # fmt: skip
"""Files with these endings (any case) are pictures."""
_UNREAD: Final = (".heic", ".heif", ".hif")
"""Endings of pictures that Pillow reads with a plugin alone."""
CLASS_NAMES: Final = "classnames.txt"
_LINE: Final = re.compile(r"(n\d{8})\s+(\S.*)")
TRAIN_PER_CLASS: Final = 64
VAL_PER_CLASS: Final = 10
_ASIDE: Final = {
    "class folder": "with pictures in several folders below it, all taken for one class",
    "file": "left out, which Pillow cannot read (save as JPEG or PNG)",
    "link": "not followed, to the dataset's own folder or one that holds it",
    "path": "passed over, which are hidden, met again, or no picture by their ending",
}
"""What is not taken as it stands in one's own folder, by a noun; all but the last are warnings."""


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

    template: Final = PHOTO

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """List the directories and look at every picture's size."""
        relative = name.removeprefix(PREFIX)
        if not is_inside(relative):
            must = f"NAME of {PREFIX}NAME must be a folder inside the data root"
            raise DatasetError(f"dataset {name!r}: {must}")
        folder = root_of(name, data_root, relative) / relative
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
        reader = _Reader(folder)
        listed = reader.listed()
        directories = sorted({directory for _, _, directory in listed})
        reader.faults.tell_same_names(folder, directories)
        class_names = sorted({clean_class_name(directory) for directory in directories})
        label_of = {own: class_names.index(clean_class_name(own)) for own in directories}
        rows = [(split, path, label_of[directory]) for split, path, directory in listed]
        rows.sort(key=lambda row: (row[2], row[1]))
        odd, notes = Faults(), Faults()
        for noun, what in _ASIDE.items():
            told = notes if noun == "path" else odd
            told.tell(folder, noun, sorted(reader.aside[noun]), what)
        survey = Survey(tuple(class_names), warnings=(*odd,), notes=(*notes,), own_split=True)
        return Found(survey, folder, folder, rows).checked(reader.faults)


class _Reader:
    """Lists one's own folder; aside: paths by their nouns in _ASIDE."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.faults = folder, Faults()
        self.aside: dict[str, list[str]] = defaultdict(list)

    def listed(self) -> list[tuple[str, str, str]]:
        """Split, path relative to the folder, and class directory of each picture."""
        own = _directories(self.folder)
        given = set(SPLITS) <= set(own)
        others = [name for name in own if name not in SPLITS]
        if not given and (alike := self._misnamed_splits(own) if others else own):
            must = "there must be three, called train, val and test"
            self.faults.append(f"{self.folder}: {some(alike)} look like splits: {must}")
            return []
        pictures = {
            (split, directory): self._pictures(f"{split}/{directory}".lstrip("/"))
            for split in (SPLITS if given else ("",))
            for directory in _directories(self.folder / split)
        }
        if given:
            self.faults.tell(self.folder, "folder", others, "beside train, val and test")
            for split in SPLITS:
                classes = sorted({directory for _, directory in pictures})
                lacking = [name for name in classes if not pictures.get((split, name))]
                self.faults.tell(self.folder, "class", lacking, f"without a picture in {split}")
        else:
            sizes = {name: len(paths) for (_, name), paths in pictures.items()}
            small = [f"{name} ({n})" for name, n in sizes.items() if n < SMALLEST_CLASS]
            what = f"with fewer than {SMALLEST_CLASS} pictures"
            self.faults.tell(self.folder, "class", small, what)
        return [
            (split, path, directory)
            for (where, directory), paths in pictures.items()
            for split, part in ({where: paths} if given else fixed_split(paths)).items()
            for path in part
        ]

    def _misnamed_splits(self, directories: list[str]) -> list[str]:
        """A directory "train", whatever its case, and those that share two folders with it."""
        train = next((name for name in directories if name.lower() == "train"), None)
        inside = set(_directories(self.folder / train)) if train else set()
        if len(inside) < 2:  # what the others hold may be millions of pictures
            return []
        alike = [own for own in directories if len(inside & {*_directories(self.folder / own)}) > 1]
        return alike if len(alike) > 1 else []

    def _pictures(self, directory: str) -> list[str]:
        """The pictures below a class directory, sorted."""
        found: list[str] = []
        holding = (self.folder, *self.folder.absolute().parents, *self.folder.resolve().parents)
        above, seen = {_identity(path) for path in holding}, set[tuple[int, int]]()
        n_below, aside = 0, self.aside
        for parent, below, names in os.walk(self.folder / directory, followlinks=True):
            here, which = Path(parent).relative_to(self.folder), _identity(Path(parent))
            if which in above or which in seen:
                aside["link" if which in above else "path"].append(here.as_posix())
                below.clear()
                continue
            seen.add(which)
            pictures = {name for name in names if _ends_in(SUFFIXES, name)}
            unread = {name for name in names if _ends_in(_UNREAD, name)}
            others = {*below, *names} - pictures - unread
            below[:] = [name for name in below if not name.startswith(".")]
            others -= {*below}
            for kept, own in ((found, pictures), (aside["file"], unread), (aside["path"], others)):
                kept += [(here / name).as_posix() for name in own]
            n_below += bool(pictures) and Path(parent) != self.folder / directory
        if n_below > 1:
            aside["class folder"].append(f"{directory} ({n_below} folders)")
        return sorted(found)


def fixed_split(paths: list[str]) -> dict[str, list[str]]:
    """Split one class's picture paths 50/20/30 by the hash of each path (see ImageFolder)."""
    shuffled = by_hash(paths)
    n_val, n_test = (max(1, round(share * len(paths))) for share in (0.2, 0.3))
    return {
        "val": shuffled[:n_val],
        "test": shuffled[n_val : n_val + n_test],
        "train": shuffled[n_val + n_test :],
    }


def _pictures(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _ends_in(SUFFIXES, entry.name))


def _directories(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones do not count."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _ends_in(suffixes: tuple[str, ...], name: str) -> bool:
    """Whether a file that is not hidden has one of these endings, in any case."""
    return name[0] != "." and name.lower().endswith(suffixes)


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a directory from all others, whichever links lead to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class ImageNet(Published):
    """Folders of ImageNet's classes, and classnames.txt with "<wnid> <name>" lines.

    1.28 million pictures are more than few-shot work needs and 140 GB more than can be hashed
    whenever a study starts. So of each class a fixed part is used, chosen by the hash of the
    pictures' paths, and fingerprints of the whole family are of paths and sizes, not of bytes.

    Labels are the lines of classnames.txt in order; it lies in data_root/folder, or else in that of
    imagenet. ImageNet itself has images/{train,val}/<wnid>/: test pictures are those of images/val,
    the train and val pictures are a fixed part of images/train, see used_part. Targets have a
    folder a class in images: test alone, with empty train and val splits.

    counts: pictures in images/train and images/val; there is no official third part.
    target: "": ImageNet itself; else pictures of its classes from elsewhere, for tests alone:
        "whole"; "numbered": folders are called 0, 1, ... after the lines of classnames.txt, not by
        wnid; "part": only some of the classes are there, and the others are none of this dataset.
    """

    target: Literal["", "whole", "numbered", "part"] = ""

    def read(self, data_root: Path, faults: Faults) -> Found:
        """List every class's folders."""
        images = data_root / self.pictures
        own, other = (data_root / folder / CLASS_NAMES for folder in (self.folder, "imagenet"))
        names = _class_names(other if other.is_file() and not own.is_file() else own, faults)
        numbered = self.target == "numbered"
        folder_of = {wnid: str(i) if numbered else wnid for i, wnid in enumerate(names)}
        parts = {"test": ""} if self.target else {"train": "train/", "test": "val/"}
        files = {
            split: self._class_folders(images, part, [*folder_of.values()], faults)
            for split, part in parts.items()
        }
        if self.target == "part":
            names = {wnid: name for wnid, name in names.items() if folder_of[wnid] in files["test"]}
        rows: list[Row] = []
        for label, wnid in enumerate(names):
            below = folder_of[wnid]
            for split, part in parts.items():
                paths = [f"{part}{below}/{file}" for file in files[split].get(below, ())]
                used = used_part(paths) if split == "train" else {split: paths}
                rows += [(own, path, label) for own in used for path in used[own]]
        twice = repeated(names.values())
        note = f"{images}: class names of more than one wnid, kept as published: {some(twice)}"
        survey = Survey(tuple(names.values()), notes=(note,) if twice else (), by_size=True)
        counts = tuple(sum(map(len, files.get(split, {}).values())) for split in SPLITS)
        return Found(survey, images, images, rows, counts)

    def _class_folders(
        self, images: Path, part: str, expected: Sequence[str], faults: Faults
    ) -> dict[str, list[str]]:
        """Pictures by class folder; tells of folders that are strange, missing or empty."""
        folder = images / part
        if not folder.is_dir():
            if part:  # else it is the folder of pictures, which is looked for anyway
                faults.append(f"{folder}: no such folder")
            return {}
        there = _directories(folder)
        found = {name: _pictures(folder / name) for name in there if name in expected}
        strange = [name for name in there if expected and name not in found]
        faults.tell(folder, "folder", strange, f"not named by {CLASS_NAMES}")
        missing = [] if self.target == "part" else [name for name in expected if name not in there]
        faults.tell(folder, "class", missing, "without a folder")
        empty = [name for name, files in found.items() if not files]
        faults.tell(folder, "class folder", empty, "without pictures")
        return found


def used_part(paths: Sequence[str]) -> dict[str, list[str]]:
    """The train and val pictures among a class's paths.

    In the order of their paths' SHA-256, the first TRAIN_PER_CLASS are train and the next
    VAL_PER_CLASS val; a class with fewer than both gives a fifth of its pictures to val (none if
    it has one) and the others to train.
    """
    chosen = by_hash(paths)
    n_val = min(VAL_PER_CLASS, -(-len(paths) // 5) if len(paths) > 1 else 0)
    n_train = min(TRAIN_PER_CLASS, len(paths) - n_val)
    return {"train": chosen[:n_train], "val": chosen[n_train : n_train + n_val]}


def _class_names(path: Path, faults: Faults) -> dict[str, str]:
    """Class names by wnid in the order of the file.

    Two wnids may have one name: CLIP's list, which CoOp took over, has "missile" and "sunglasses"
    twice. Their prompts are the same, so pictures of the second are counted as the first.
    """
    lines = read_lines(path, faults)
    matches = [_LINE.fullmatch(line) for line in lines]
    bad = [repr(line) for line, match in zip(lines, matches, strict=True) if not match]
    faults.tell(path, "line", bad, "must be '<wnid> <class name>'")
    pairs = [(match[1], clean_class_name(match[2])) for match in matches if match]
    faults.tell(path, "wnid", [wnid for wnid, name in pairs if not name], "without a class name")
    faults.tell(path, "wnid", repeated(wnid for wnid, _ in pairs), "on more than one line")
    return dict(pairs)
