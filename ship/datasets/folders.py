"""Folders for each class, and the layout of ImageNet and its relatives."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ship.datasets.base import SPLITS, Faults, Survey, clean_class_name, some
from ship.datasets.layouts import Found, Published, by_hash
from ship.datasets.lists import Row, read_lines, repeated

SUFFIXES: Final = (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png",
                   ".ppm", ".tif", ".tiff", ".webp")  # fmt: skip
"""Files with these endings (any case) are pictures."""
CLASS_NAMES: Final = "classnames.txt"
_LINE: Final = re.compile(r"(n\d{8})\s+(\S.*)")
TRAIN_PER_CLASS: Final = 64
VAL_PER_CLASS: Final = 10


def _pictures(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if ends_in(SUFFIXES, entry.name))


def directories_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones do not count."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def ends_in(suffixes: tuple[str, ...], name: str) -> bool:
    """Whether a file that is not hidden has one of these endings, in any case."""
    return name[0] != "." and name.lower().endswith(suffixes)


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
        listed = data_root / self.folder / CLASS_NAMES
        shared = data_root / "imagenet" / CLASS_NAMES
        if shared.is_file() and not listed.is_file():
            listed = shared
        names = _class_names(listed, faults)
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
                rows += [(to, path, label) for to, chosen in used.items() for path in chosen]
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
        there = directories_in(folder)
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
    VAL_PER_CLASS val. A class with fewer than both gives a fifth of its pictures, rounded up and at
    most VAL_PER_CLASS, to val (none if it has one) and the others to train.
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
