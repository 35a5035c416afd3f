"""Read ImageNet and its variants, which have one folder per class."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ship.datasets.base import SPLITS, DatasetScan, Faults, clean_class_name, shorten_list
from ship.datasets.layouts import Listing, PublishedDataset, sort_by_hash
from ship.datasets.lists import Row, find_repeated, read_lines

SUFFIXES: Final = (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png",
                   ".ppm", ".tif", ".tiff", ".webp")  # fmt: skip
"""File name suffixes of images. Case is ignored."""
CLASS_NAMES: Final = "classnames.txt"
_LINE: Final = re.compile(r"(n\d{8})\s+(\S.*)")
# Maximum numbers of images per class that select_images selects.
TRAIN_PER_CLASS: Final = 64
VAL_PER_CLASS: Final = 10


def _list_images(folder: Path) -> list[str]:
    """Return the names of the images directly in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if ends_in(SUFFIXES, entry.name))


def list_subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def ends_in(suffixes: tuple[str, ...], name: str) -> bool:
    """Return True if a file name is not hidden and ends in one of the suffixes, ignoring case."""
    return name[0] != "." and name.lower().endswith(suffixes)


@dataclass(frozen=True)
class ImageNet(PublishedDataset):
    """ImageNet or a test-only variant, with one folder per class.

    Labels follow the lines "<wnid> <name>" of classnames.txt (wnid: WordNet ID), which is read from
    data_root/folder, or else from data_root/imagenet.

    - ImageNet itself has folders images/train/<wnid> and images/val/<wnid>. The test split is
      images/val. The train and val splits are a fixed subset of images/train (see select_images),
      because few-shot learning does not need 1.28 million images.
    - Variants have one folder per class in their image folder. All their images are test images.

    Fingerprints hash paths and sizes instead of bytes: hashing 140 GB whenever a study starts would
    take too long.

    Attributes:
        n_images: Numbers of images in images/train and images/val, as (train, 0, val). For a
            variant, the last is its number of images and the first two are 0.
        variant: "" for ImageNet itself. Otherwise the kind of a variant:

            - "whole": has all classes.
            - "numbered": has all classes, in folders 0, 1, ... in the order of classnames.txt.
            - "part": has folders of some classes only. The other classes are omitted.
    """

    variant: Literal["", "whole", "numbered", "part"] = ""

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """List the images in the folders of all classes."""
        images = data_root / self.image_folder_path
        names_path = data_root / self.folder / CLASS_NAMES
        fallback = data_root / "imagenet" / CLASS_NAMES
        if fallback.is_file() and not names_path.is_file():
            names_path = fallback
        names = _read_class_names(names_path, faults)
        numbered = self.variant == "numbered"
        folder_of = {wnid: str(i) if numbered else wnid for i, wnid in enumerate(names)}
        subfolders = {"test": ""} if self.variant else {"train": "train/", "test": "val/"}
        files = {
            split: self._list_class_folders(images, subfolder, [*folder_of.values()], faults)
            for split, subfolder in subfolders.items()
        }
        if self.variant == "part":
            names = {wnid: name for wnid, name in names.items() if folder_of[wnid] in files["test"]}
        rows: list[Row] = []
        for label, wnid in enumerate(names):
            folder = folder_of[wnid]
            for source, subfolder in subfolders.items():
                paths = [f"{subfolder}{folder}/{file}" for file in files[source].get(folder, ())]
                by_split = select_images(paths) if source == "train" else {source: paths}
                for split, selected in by_split.items():
                    rows += [(split, path, label) for path in selected]
        repeats = shorten_list(find_repeated(names.values()))
        note = f"{images}: class names of more than one wnid, kept as published: {repeats}"
        scan = DatasetScan(tuple(names.values()), notes=(note,) if repeats else (), by_size=True)
        n_images = tuple(sum(map(len, files.get(split, {}).values())) for split in SPLITS)
        return Listing(scan, images, images, rows, n_images)

    def _list_class_folders(
        self, images: Path, subfolder: str, expected: Sequence[str], faults: Faults
    ) -> dict[str, list[str]]:
        """List the images of each class folder, and report unknown, missing and empty folders."""
        folder = images / subfolder
        if not folder.is_dir():
            if subfolder:  # Listing.check_images reports that `images` itself is missing
                faults.append(f"{folder}: no such folder")
            return {}
        names = list_subfolders(folder)
        files_of = {name: _list_images(folder / name) for name in names if name in expected}
        unknown_folders = [name for name in names if expected and name not in files_of]
        faults.add(folder, "folder", unknown_folders, f"not listed in {CLASS_NAMES}")
        missing = [] if self.variant == "part" else [name for name in expected if name not in names]
        faults.add(folder, "class", missing, "without a folder")
        empty = [name for name, files in files_of.items() if not files]
        faults.add(folder, "class folder", empty, "without images")
        return files_of


def select_images(paths: Sequence[str]) -> dict[str, list[str]]:
    """Select the train and val images of a class.

    Images are ordered by the SHA-256 of their paths. The first TRAIN_PER_CLASS are for train, and
    the next VAL_PER_CLASS for val. If there are fewer images, val gets a fifth of them, rounded up,
    but at most VAL_PER_CLASS; train gets the rest. A single image is for train.

    Args:
        paths: Paths of the class's images.

    Returns:
        The selected paths by split, "train" and "val".
    """
    ordered = sort_by_hash(paths)
    n_val = min(VAL_PER_CLASS, -(-len(paths) // 5) if len(paths) > 1 else 0)
    n_train = min(TRAIN_PER_CLASS, len(paths) - n_val)
    return {"train": ordered[:n_train], "val": ordered[n_train : n_train + n_val]}


def _read_class_names(path: Path, faults: Faults) -> dict[str, str]:
    """Read class names by wnid, in the order of the file.

    Two wnids may have the same name: CLIP's list, which CoOp uses, has "missile" and "sunglasses"
    twice. Their prompts are equal, so images of the second class are classified as the first.
    """
    lines = read_lines(path, faults)
    matches = [_LINE.fullmatch(line) for line in lines]
    bad_lines = [repr(line) for line, match in zip(lines, matches, strict=True) if not match]
    faults.add(path, "line", bad_lines, "must be '<wnid> <class name>'")
    pairs = [(match[1], clean_class_name(match[2])) for match in matches if match]
    faults.add(path, "wnid", [wnid for wnid, name in pairs if not name], "without a class name")
    faults.add(path, "wnid", find_repeated(wnid for wnid, _ in pairs), "on more than one line")
    return dict(pairs)
