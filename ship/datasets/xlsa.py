"""The xlsa17 layout of generalized zero-shot learning: AWA2, CUB, SUN and FLO.

Splits are those of Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
Bad and the Ugly" (arXiv:1707.00600).
"""

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ship.datasets.base import SPLITS, clean_class_name, picture_faults, some
from ship.datasets.faults import leak_faults, root_faults, same_name_faults
from ship.datasets.survey import Survey, make_splits, other_counts, read_list
from ship.datasets.xlsa_files import LOCS, XlsaFiles, read_xlsa_files

Rows = dict[str, list[tuple[str, int]]]


@dataclass(frozen=True)
class XlsaDataset:
    """data_root/xlsa17/data/<DATASET> says which pictures are of which class and split.

    folder: holds res101.mat and att_splits.mat.
    images: data_root/images holds the pictures.
    below: the files give paths on their authors' machine; a picture's path is what follows the
        last folder of this name ("": the file name alone).
    names_file: {"<class number>": "<name>"}, below data_root, where att_splits.mat has no names.
    counts: pictures in trainval, test_seen and test_unseen as published. n_seen: seen classes.

    Seen classes come first, then unseen ones, each sorted by name. val is a tenth of each class's
    trainval pictures, chosen by the hash of their paths, at least one where there are two; train is
    the rest; test is test_seen and test_unseen together.
    """

    folder: str
    images: str
    below: str
    counts: tuple[int, int, int]
    classes: int
    n_seen: int
    names_file: str = ""
    template: str = "a photo of a {}."

    def survey(self, name: str, data_root: Path | None) -> Survey:
        """Read both files and look at every picture's size."""
        faults = root_faults(
            name,
            data_root,
            (self.images, "folder of pictures"),
            (f"{self.folder}/res101.mat", "file"),
            (f"{self.folder}/att_splits.mat", "file"),
        )
        if data_root is None or not (data_root / self.folder).is_dir():
            return Survey(faults=tuple(faults))
        files = read_xlsa_files(data_root / self.folder)
        faults += files.faults
        names, wrong = self._class_names(files, data_root)
        faults += wrong
        if faults:
            return Survey(faults=tuple(faults))
        found = _survey(files, names, self.below, data_root / self.images)
        what = f"dataset {name}: {self.folder}/att_splits.mat"
        trainval, seen, unseen = (len(files.locs[loc]) for loc in LOCS)
        published = (self.counts, self.classes)
        unlike = other_counts(what, (trainval, seen, unseen), len(names), *published)
        if found.n_seen != self.n_seen:
            unlike += (f"{what} has {found.n_seen} seen classes, the published one {self.n_seen}",)
        version = files.split_version
        note = f"dataset {name}: split of {version} (the files do not say if it is version 1 or 2)"
        return Survey(
            found.class_names,
            found.splits,
            tuple(f"{data_root / self.folder}: {fault}" for fault in found.faults),
            unlike,
            (note,),
            n_seen=found.n_seen,
            split_version=version,
        )

    def _class_names(self, files: XlsaFiles, data_root: Path) -> tuple[list[str], list[str]]:
        """Cleaned names by the files' labels, and faults."""
        names, where = files.class_names, data_root / self.folder / "att_splits.mat"
        if names is None and not self.names_file:
            known = any(len(loc) for loc in files.locs.values())  # else the file has its own fault
            return [], [f"{where}: has no allclasses_names"] if known else []
        if names is None:
            where = data_root / self.names_file
            names, faults = _numbered_names(where)
            if faults:
                return [], faults
        names = [xlsa_class_name(raw) for raw in names]
        faults = [f"{where}: {fault}" for fault in same_name_faults(names)]
        n_labels = int(files.labels.max()) + 1 if len(files.labels) else len(names)
        if n_labels > len(names):
            faults.append(f"{where}: names {len(names)} classes, but labels go up to {n_labels}")
        return names, faults


XLSA_DATASETS: Final[Mapping[str, XlsaDataset]] = {
    "awa2": XlsaDataset(
        folder="xlsa17/data/AWA2",
        images="Animals_with_Attributes2/JPEGImages",
        below="JPEGImages",
        counts=(23527, 5882, 7913),
        classes=50,
        n_seen=40,
    ),
    "cub": XlsaDataset(
        folder="xlsa17/data/CUB",
        images="CUB_200_2011/images",
        below="images",
        counts=(7057, 1764, 2967),
        classes=200,
        n_seen=150,
    ),
    "sun_attributes": XlsaDataset(
        folder="xlsa17/data/SUN",
        images="SUN/images",
        below="images",
        counts=(10320, 2580, 1440),
        classes=717,
        n_seen=645,
    ),
    "flo": XlsaDataset(
        folder="xlsa17/data/FLO",
        images="oxford_flowers/jpg",
        below="",
        counts=(5631, 1403, 1155),
        classes=102,
        n_seen=82,
        names_file="oxford_flowers/cat_to_name.json",
        template="a photo of a {}, a type of flower.",
    ),
}


def xlsa_class_name(raw: str) -> str:
    """ "grizzly+bear", "001.Black_footed_Albatross" and "a/abbey" as words."""
    name = re.sub(r"^(\d+\.|[A-Za-z]/)", "", raw.strip())
    return clean_class_name(name.replace("+", " ").replace("/", " "))


def _survey(files: XlsaFiles, names: list[str], below: str, images: Path) -> Survey:
    """Pictures with labels in the order of seen before unseen; faults that only both files show."""
    classes = {loc: set(files.labels[files.locs[loc]].tolist()) for loc in LOCS}
    seen, test_seen, unseen = (classes[loc] for loc in LOCS)
    wording = {
        "classes both seen and unseen": unseen & (seen | test_seen),
        "classes of test_seen_loc that trainval_loc lacks": test_seen - seen,
        "classes without pictures": set(range(len(names))) - seen - test_seen - unseen,
    }
    faults = [
        f"{fault}: {some(sorted(names[c] for c in bad))}" for fault, bad in wording.items() if bad
    ]
    order = [*sorted(seen, key=names.__getitem__), *sorted(unseen - seen, key=names.__getitem__)]
    label_of = {old: new for new, old in enumerate(order)}
    tails = [_tail(path, below) for path in files.image_files]
    untold = [path for path, tail in zip(files.image_files, tails, strict=True) if not tail]
    if untold:
        faults.append(f"image_files outside of a folder {below!r}: {some(untold)}")
    pairs = {
        loc: [
            (tails[i], label_of[label])
            for i, label in zip(ids.tolist(), files.labels[ids].tolist(), strict=True)
            if tails[i] and label in label_of
        ]
        for loc, ids in ((loc, np.sort(files.locs[loc])) for loc in LOCS)
    }
    rows = _split_val(pairs["trainval_loc"])
    rows["test"] = pairs["test_seen_loc"] + pairs["test_unseen_loc"]
    faults += leak_faults(rows)
    paths = [path for split in SPLITS for path, _ in rows[split]]
    faults += [f"{fault} (below {images})" for fault in picture_faults(images, paths)]
    class_names = tuple(names[old] for old in order)
    return Survey(class_names, make_splits(images, rows), tuple(faults), n_seen=len(seen))


def _tail(path: str, below: str) -> str:
    """A picture's path below its folder, from its path on the authors' machine; "" if unknown."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    if not below:
        return parts[-1] if parts else ""
    if below not in parts:
        return ""
    last = len(parts) - 1 - parts[::-1].index(below)
    return "/".join(parts[last + 1 :])


def _split_val(trainval: list[tuple[str, int]]) -> Rows:
    """Put a tenth of each class's pictures aside as val, both parts in the files' order."""
    of_class: dict[int, list[str]] = defaultdict(list)
    for path, label in trainval:
        of_class[label].append(path)
    held_out: set[str] = set()
    for paths in of_class.values():
        n_val = max(1, round(0.1 * len(paths))) if len(paths) > 1 else 0
        held_out.update(
            sorted(paths, key=lambda p: hashlib.sha256(os.fsencode(p)).digest())[:n_val]
        )
    return {
        "train": [row for row in trainval if row[0] not in held_out],
        "val": [row for row in trainval if row[0] in held_out],
    }


def _numbered_names(path: Path) -> tuple[list[str], list[str]]:
    """Class names from {"1": "pink primrose", ...}, and faults."""
    try:
        document: Any = json.loads(read_list(path).decode("utf-8"))
    except OSError as why:
        return [], [f"{path}: cannot be read, and att_splits.mat has no names: {why.strerror}"]
    except (ValueError, RecursionError) as why:
        return [], [f"{path}: is not JSON: {why}"]
    wanted = [str(i + 1) for i in range(len(document))] if isinstance(document, dict) else []
    if not wanted or any(not isinstance(document.get(number), str) for number in wanted):
        return [], [f"{path}: must be an object of class names by the numbers 1, 2, ..."]
    return [document[number] for number in wanted], []
