"""ImageNet in CoOp's layout, and its four variants as targets of cross-dataset transfer.

1.28 million pictures are more than few-shot work needs and 140 GB more than can be hashed whenever
a study starts. So of each class a fixed part is used, chosen by the hash of the pictures' paths,
and fingerprints of the whole family are of paths and sizes, not of bytes.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ship.datasets.base import SPLITS, Faults, some
from ship.datasets.layout import SUFFIXES, Found, Published, by_hash, read_lines
from ship.datasets.names import clean_class_name
from ship.datasets.survey import Survey, repeated

CLASS_NAMES: Final = "classnames.txt"
_LINE: Final = re.compile(r"(n\d{8})\s+(\S.*)")
TRAIN_PER_CLASS: Final = 64
VAL_PER_CLASS: Final = 10


@dataclass(frozen=True)
class ImageNet(Published):
    """Folders of ImageNet's classes, and classnames.txt with "<wnid> <name>" lines.

    Labels are the lines of classnames.txt in order; it lies in data_root/folder, or else in that of
    imagenet. ImageNet itself has images/{train,val}/<wnid>/: test pictures are those of images/val,
    the train and val pictures are a fixed part of images/train, see used_part. Targets have a
    folder a class in images: test alone, with empty train and val splits.

    counts: pictures in images/train and images/val; there is no official third part.
    target: pictures of ImageNet's classes from elsewhere, for tests alone.
    numbered: folders are called 0, 1, ... after the lines of classnames.txt, not by wnid.
    subset: only some of the classes are there, and the others are no classes of this dataset.
    """

    target: bool = False
    numbered: bool = False
    subset: bool = False

    @property
    def _parts(self) -> dict[str, str]:
        """Split -> the folder of class folders below images."""
        return {"test": ""} if self.target else {"train": "train/", "test": "val/"}

    def read(self, data_root: Path, faults: Faults) -> Found:
        """List every class's folders."""
        images = data_root / self.pictures
        own, other = (data_root / folder / CLASS_NAMES for folder in (self.folder, "imagenet"))
        names = _class_names(other if other.is_file() and not own.is_file() else own, faults)
        folder_of = {wnid: str(i) if self.numbered else wnid for i, wnid in enumerate(names)}
        files = {
            split: self._class_folders(images, part, list(folder_of.values()), faults)
            for split, part in self._parts.items()
        }
        if self.subset:
            names = {wnid: name for wnid, name in names.items() if folder_of[wnid] in files["test"]}
        rows = []
        for label, wnid in enumerate(names):
            below = folder_of[wnid]
            for split, part in self._parts.items():
                paths = [f"{part}{below}/{file}" for file in files[split].get(below, ())]
                used = used_part(paths) if split == "train" else {split: paths}
                rows += [(own, path, label) for own in used for path in used[own]]
        twice = repeated(names.values())
        note = f"{images}: class names of more than one wnid, kept as published: {some(twice)}"
        notes = (note,) if twice else ()
        survey = Survey(tuple(names.values()), notes=notes, by_size=True)
        counts = tuple(sum(map(len, files.get(split, {}).values())) for split in SPLITS)
        return Found(survey, rows, images, images, counts)

    def _class_folders(
        self, images: Path, part: str, expected: Sequence[str], faults: Faults
    ) -> dict[str, list[str]]:
        """Pictures by class folder; tells of folders that are strange, missing or empty."""
        folder = images / part
        if not folder.is_dir():
            if part:  # else it is the folder of pictures, which is looked for anyway
                faults.append(f"{folder}: no such folder")
            return {}
        with os.scandir(folder) as entries:
            there = {entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."}
        found = {name: _pictures(folder / name) for name in expected if name in there}
        strange = sorted(there - set(expected)) if expected else []
        missing = [] if self.subset else [name for name in expected if name not in there]
        empty = [name for name, files in found.items() if not files]
        faults.tell(folder, "folder", strange, f"not named by {CLASS_NAMES}")
        faults.tell(folder, "class", missing, "without a folder")
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


def _pictures(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, sorted; hidden and other files do not count."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sorted(
        name
        for name in names
        if name[0] != "." and f".{name.rpartition('.')[2].lower()}" in SUFFIXES
    )
