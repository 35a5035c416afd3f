"""ImageNet in CoOp's layout, and its four variants as targets of cross-dataset transfer.

1.28 million pictures are more than few-shot work needs and 140 GB more than can be hashed whenever
a study starts. So of each class a fixed part is used, chosen by the hash of the pictures' paths,
and fingerprints of the whole family are of paths and sizes, not of bytes.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ship.datasets.base import clean_class_name, number, picture_faults, some
from ship.datasets.faults import root_faults
from ship.datasets.survey import (
    Survey,
    counted,
    listed_pictures,
    make_splits,
    other_counts,
    read_lines,
    repeated,
)

CLASS_NAMES: Final = "classnames.txt"
_LINE: Final = re.compile(r"(n\d{8})\s+(\S.*)")


@dataclass(frozen=True)
class ImageNetDataset:
    """data_root/imagenet: images/{train,val}/<wnid>/ and classnames.txt with "<wnid> <name>" lines.

    Labels are the lines of classnames.txt in order. Test pictures are those of images/val. Of each
    class's training pictures, in the order of their paths' SHA-256, the first train_per_class are
    train and the next val_per_class val; a class with fewer than both gives a fifth of its pictures
    to val (none if it has one) and the others to train.

    counts: pictures in images/train and images/val; there is no official third part.
    """

    folder: str = "imagenet"
    images: str = "images"
    counts: tuple[int, int, int] = (1281167, 0, 50000)
    classes: int = 1000
    template: str = "a photo of a {}."
    train_per_class: int = 64
    val_per_class: int = 10

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """List every class's folder and look at the size of each picture that is used."""
        below = f"{self.folder}/{self.images}"
        faults = root_faults(
            name,
            data_root,
            (f"{below}/train", "folder of pictures"),
            (f"{below}/val", "folder of pictures"),
            (f"{self.folder}/{CLASS_NAMES}", "file of class names"),
        )
        if data_root is None or faults:
            return Survey(faults=tuple(faults))
        images = data_root / below
        names, faults = read_class_names(data_root / self.folder / CLASS_NAMES)
        found: dict[str, dict[str, list[str]]] = {}
        for part in ("train", "val"):
            found[part], more = _class_folders(images / part, list(names), subset=False)
            faults += more
        rows: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
        for label, wnid in enumerate(names):
            paths = [f"train/{wnid}/{file}" for file in found["train"].get(wnid, ())]
            train, val = self._part(paths)
            rows["train"] += [(path, label) for path in train]
            rows["val"] += [(path, label) for path in val]
            rows["test"] += [(f"val/{wnid}/{f}", label) for f in found["val"].get(wnid, ())]
        used = [path for pairs in rows.values() for path, _ in pairs]
        faults += [f"{images}: {fault}" for fault in picture_faults(images, used)]
        on_disk = sum(map(len, found["train"].values())), 0, len(rows["test"])
        what = f"dataset {name}: {images}"
        unlike = other_counts(what, on_disk, len(names), self.counts, self.classes)
        return Survey(
            tuple(names.values()),
            make_splits(images, rows),
            tuple(faults),
            unlike,
            _same_names(names),
            by_size=True,
        )

    def _part(self, paths: list[str]) -> tuple[list[str], list[str]]:
        """The train and val pictures among a class's paths."""
        chosen = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
        n_val = min(self.val_per_class, -(-len(paths) // 5) if len(paths) > 1 else 0)
        n_train = min(self.train_per_class, len(paths) - n_val)
        return chosen[:n_train], chosen[n_train : n_train + n_val]


@dataclass(frozen=True)
class ImageNetTarget:
    """Pictures of ImageNet's classes from elsewhere: test alone, with empty train and val splits.

    folder, images: data_root/folder/images holds a folder a class.
    numbered: folders are called 0, 1, ... after the lines of classnames.txt, not by wnid.
    subset: only some of the classes are there, and the others are no classes of this dataset.

    classnames.txt lies in the folder, or else in that of imagenet.
    """

    folder: str
    images: str
    counts: tuple[int, int, int]
    classes: int
    numbered: bool = False
    subset: bool = False
    template: str = "a photo of a {}."

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """List every class's folder and look at every picture's size."""
        home = self.folder
        if data_root is not None and not (data_root / home / CLASS_NAMES).is_file():
            home = "imagenet" if (data_root / "imagenet" / CLASS_NAMES).is_file() else home
        faults = root_faults(
            name,
            data_root,
            (f"{self.folder}/{self.images}", "folder of pictures"),
            (f"{home}/{CLASS_NAMES}", "file of class names"),
        )
        if data_root is None or faults:
            return Survey(faults=tuple(faults))
        images = data_root / self.folder / self.images
        names, faults = read_class_names(data_root / home / CLASS_NAMES)
        folder_of = {wnid: str(i) if self.numbered else wnid for i, wnid in enumerate(names)}
        found, more = _class_folders(images, list(folder_of.values()), subset=self.subset)
        if self.subset:
            names = {wnid: name for wnid, name in names.items() if folder_of[wnid] in found}
        rows = [
            (f"{folder_of[wnid]}/{file}", label)
            for label, wnid in enumerate(names)
            for file in found.get(folder_of[wnid], ())
        ]
        faults += more
        faults += [f"{images}: {f}" for f in picture_faults(images, [path for path, _ in rows])]
        splits = make_splits(images, {"test": rows})
        what = f"dataset {name}: {images}"
        unlike = other_counts(what, counted(splits), len(names), self.counts, self.classes)
        return Survey(
            tuple(names.values()), splits, tuple(faults), unlike, _same_names(names), by_size=True
        )


IMAGENET_DATASETS: Final[Mapping[str, ImageNetDataset | ImageNetTarget]] = {
    "imagenet": ImageNetDataset(),
    "imagenetv2": ImageNetTarget(
        folder="imagenetv2",
        images="imagenetv2-matched-frequency-format-val",
        counts=(0, 0, 10000),
        classes=1000,
        numbered=True,
    ),
    "imagenet_sketch": ImageNetTarget(
        folder="imagenet-sketch", images="images", counts=(0, 0, 50889), classes=1000
    ),
    "imagenet_a": ImageNetTarget(
        folder="imagenet-adversarial",
        images="imagenet-a",
        counts=(0, 0, 7500),
        classes=200,
        subset=True,
    ),
    "imagenet_r": ImageNetTarget(
        folder="imagenet-rendition",
        images="imagenet-r",
        counts=(0, 0, 30000),
        classes=200,
        subset=True,
    ),
}


def read_class_names(path: Path) -> tuple[dict[str, str], list[str]]:
    """Class names by wnid in the order of the file, and its faults.

    Two wnids may have one name: CLIP's list, which CoOp took over, has "missile" and "sunglasses"
    twice. Their prompts are the same, so pictures of the second are counted as the first.
    """
    lines, faults = read_lines(path)
    matches = [_LINE.fullmatch(line) for line in lines]
    bad = [repr(line) for line, match in zip(lines, matches, strict=True) if not match]
    if bad:
        faults.append(f"{path}: must be '<wnid> <class name>' lines: {some(bad)}")
    pairs = [(match[1], clean_class_name(match[2])) for match in matches if match]
    unnamed = [wnid for wnid, name in pairs if not name]
    if unnamed:
        faults.append(f"{path}: no class name for {some(unnamed)}")
    twice = repeated(wnid for wnid, _ in pairs)
    if twice:
        faults.append(f"{path}: wnids on more than one line: {some(twice)}")
    if not faults and len(pairs) < 2:
        faults.append(f"{path}: must name at least 2 classes, names {len(pairs)}")
    return dict(pairs), faults


def _same_names(names: Mapping[str, str]) -> tuple[str, ...]:
    twice = repeated(names.values())
    if not twice:
        return ()
    return (f"class names of more than one wnid, kept as published: {some(twice)}",)


def _class_folders(
    images: Path, expected: list[str], *, subset: bool
) -> tuple[dict[str, list[str]], list[str]]:
    """Pictures by class folder, and folders that are strange, missing or without pictures."""
    with os.scandir(images) as entries:
        there = {entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."}
    found = {name: listed_pictures(images / name) for name in expected if name in there}
    wording = {
        ("folder", "not named by classnames.txt"): sorted(there - set(expected)),
        ("class", "without a folder"): [] if subset else [n for n in expected if n not in there],
        ("class folder", "without pictures"): [name for name, files in found.items() if not files],
    }
    faults = [
        f"{images}: {number(bad, noun)} {what}: {some(bad)}"
        for (noun, what), bad in wording.items()
        if bad
    ]
    if len(found) < 2 and not faults:
        faults.append(f"{images}: must have at least 2 class folders, has {len(found)}")
    return found, faults
