"""The xlsa17 layout of generalized zero-shot learning: AWA2, CUB, SUN and FLO.

Splits are those of Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
Bad and the Ugly" (arXiv:1707.00600).
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64

from ship.datasets.base import Faults, some
from ship.datasets.layout import Found, Published, by_hash, is_file, read_object
from ship.datasets.mat_file import MatError, Value, read_mat
from ship.datasets.names import clean_class_name, tell_same_names
from ship.datasets.survey import Survey, slashed

LOCS: Final = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
"""The lists of pictures that make the official split; train_loc and val_loc are not used."""
_NAMES: Final = "allclasses_names"

Ids = Int64[np.ndarray, " _"]
Locs = Mapping[str, Ids]
"""Indices of pictures from 0, by the names of LOCS."""


@dataclass(frozen=True)
class Xlsa(Published):
    """data_root/xlsa17/data/<DATASET> says which pictures are of which class and split.

    folder: holds res101.mat and att_splits.mat. images: data_root/images holds the pictures.
    counts: pictures in trainval, test_seen and test_unseen as published.
    below: the files give paths on their authors' machine; a picture's path is what follows the
        last folder of this name ("": the file name alone).
    names_file: {"<class number>": "<name>"}, below data_root, where att_splits.mat has no names.

    Seen classes come first, then unseen ones, each sorted by name. val is a tenth of each class's
    trainval pictures, chosen by the hash of their paths, at least one where there are two; train is
    the rest; test is test_seen and test_unseen together.
    """

    below: str = ""
    names_file: str = ""

    @property
    def pictures(self) -> str:
        """Elsewhere than the lists."""
        return self.images

    def read(self, data_root: Path, faults: Faults) -> Found:
        """Read both files."""
        folder, images = data_root / self.folder, data_root / self.pictures
        pictures = _Variables(folder / "res101.mat", ("image_files", "labels"), faults)
        official = _Variables(folder / "att_splits.mat", LOCS, faults, (_NAMES,))
        files, labels = pictures.texts("image_files"), pictures.indices("labels", None)
        if files and len(labels) and len(files) != len(labels):
            faults.append(f"{pictures.path}: {len(files)} image_files but {len(labels)} labels")
        locs = {loc: official.indices(loc, len(labels) or None) for loc in LOCS}
        _tell_shared_pictures(official.path, locs, faults)
        names = self._class_names(official, data_root, labels, faults)
        if faults:  # of what cannot be trusted, nothing more can be told
            return Found(Survey(), (), images, folder)
        seen = _seen_classes(folder, names, labels, locs, faults)
        order = sorted(range(len(names)), key=lambda label: (label not in seen, names[label]))
        label_of = {old: new for new, old in enumerate(order)}
        paths = [_tail(file, self.below) for file in files]
        outside = [file for file, path in zip(files, paths, strict=True) if not path]
        faults.tell(folder, "image_file", outside, f"outside of a folder {self.below!r}")
        pictures_of = {
            loc: [(paths[i], label_of[int(labels[i])]) for i in np.sort(locs[loc]) if paths[i]]
            for loc in LOCS
        }
        val = _held_out(pictures_of[LOCS[0]])
        rows = [
            ("test" if loc != LOCS[0] else "val" if path in val else "train", path, label)
            for loc, pairs in pictures_of.items()
            for path, label in pairs
        ]
        version = _split_version(locs)
        note = f"{folder}: split of {version} (the files do not say if it is version 1 or 2)"
        survey = Survey(
            tuple(names[old] for old in order),
            notes=(note,),
            n_seen=len(seen),
            split_version=version,
        )
        counts = tuple(len(locs[loc]) for loc in LOCS)
        return Found(survey, rows, images, folder, counts)

    def _class_names(
        self, official: "_Variables", data_root: Path, labels: Ids, faults: Faults
    ) -> list[str]:
        """Cleaned names by the files' labels: att_splits.mat's, or those of names_file."""
        where, raw = official.path, official.texts(_NAMES)
        if official.found and _NAMES not in official.found:
            if self.names_file:
                where = data_root / self.names_file
                raw = _numbered_names(where, faults)
            else:
                faults.append(f"{where}: has no {_NAMES}")
        names = [xlsa_class_name(name) for name in raw]
        tell_same_names(faults, where, names)
        n_labels = int(labels.max()) + 1 if len(labels) else 0
        if names and n_labels > len(names):
            faults.append(f"{where}: names {len(names)} classes, but labels go up to {n_labels}")
        return names


class _Variables:
    """The wanted variables of a MATLAB file; what is wrong with them is told."""

    def __init__(
        self, path: Path, needed: Sequence[str], faults: Faults, optional: Sequence[str] = ()
    ) -> None:
        self.path, self.found, self._faults = path, dict[str, Value](), faults
        if not is_file(path, faults):
            return
        try:
            self.found = read_mat(path, [*needed, *optional])
        except OSError as why:
            faults.append(f"{path}: cannot be read: {why.strerror}")
            return
        except MatError as why:
            faults.append(f"{path}: must be a MATLAB file of version 5 to 7: {why}")
            return
        if absent := [name for name in needed if name not in self.found]:
            faults.append(f"{path}: has no {some(absent)}")

    def indices(self, name: str, highest: int | None) -> Ids:
        """A vector that counts from 1, as indices from 0; empty where it is not sound.

        Args:
            highest: the highest value allowed; None: any.
        """
        nothing = np.empty(0, dtype=np.int64)
        if name not in self.found:
            return nothing
        value, where = self.found[name], f"{self.path}: {name}"
        if not isinstance(value, np.ndarray) or value.size == 0 or value.size != max(value.shape):
            shape = slashed(value.shape) if isinstance(value, np.ndarray) else ""
            what = f"an array of {shape}" if shape else "none"
            self._faults.append(f"{where} must be a vector of numbers, is {what}")
            return nothing
        flat = value.ravel()
        with np.errstate(invalid="ignore"):
            sound = np.isfinite(flat) & (flat == np.floor(flat)) & (flat >= 1) & (flat < 2**31)
            sound &= flat <= (highest or 2**31)
        if not sound.all():
            until = f"1 to {highest}" if highest else "1 and up"
            bad = some(f"{number:.9g}" for number in flat[~sound])
            self._faults.append(f"{where} must be whole numbers of {until}, holds {bad}")
            return nothing
        return flat.astype(np.int64) - 1

    def texts(self, name: str) -> list[str]:
        """The texts of a cell array, or the rows of a text; empty where one is not sound."""
        if name not in self.found:
            return []
        value = self.found[name]
        texts = [_text(cell) for cell in (value if isinstance(value, list) else [value])]
        bad = [f"{name}[{i + 1}]" for i, text in enumerate(texts) if not text]
        if bad or not texts:
            what = some(bad) if bad else f"{name} is empty"
            self._faults.append(f"{self.path}: {name} must be a cell array of texts: {what}")
            return []
        return texts


def _text(cell: Value) -> str:
    """A text, which may stand in a cell of its own; "" for anything else."""
    while isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    return cell.strip() if isinstance(cell, str) else ""


def _tell_shared_pictures(path: Path, locs: Locs, faults: Faults) -> None:
    """Pictures that stand twice in a list, or in two of them; shown as MATLAB counts."""
    for name, loc in locs.items():
        values, times = np.unique(loc, return_counts=True)
        faults.tell(path, "picture", values[times > 1] + 1, f"more than once in {name}")
    for name, other in combinations(LOCS, 2):
        both = np.intersect1d(locs[name], locs[other])
        faults.tell(path, "picture", both + 1, f"both in {name} and {other}")


def _numbered_names(path: Path, faults: Faults) -> list[str]:
    """Class names from {"1": "pink primrose", ...}."""
    what = "class names by the numbers 1, 2, ..."
    document = read_object(path, what, faults)
    if document is None:
        return []
    names = [document.get(str(i + 1)) for i in range(len(document))]
    texts = [name for name in names if isinstance(name, str)]
    if not texts or len(texts) < len(names):
        faults.append(f"{path}: must be an object of {what}")
        return []
    return texts


def xlsa_class_name(raw: str) -> str:
    """ "grizzly+bear", "001.Black_footed_Albatross" and "a/abbey" as words."""
    name = re.sub(r"^(\d+\.|[A-Za-z]/)", "", raw.strip())
    return clean_class_name(name.replace("+", " ").replace("/", " "))


def _seen_classes(
    where: Path, names: Sequence[str], labels: Ids, locs: Locs, faults: Faults
) -> set[int]:
    """The labels of the official split's seen classes; told are classes that do not fit it."""
    seen, test_seen, unseen = (set(labels[locs[loc]].tolist()) for loc in LOCS)
    wrong = {
        "both seen and unseen": unseen & (seen | test_seen),
        "of test_seen_loc that trainval_loc lacks": test_seen - seen,
        "without pictures": set(range(len(names))) - seen - test_seen - unseen,
    }
    for what, bad in wrong.items():
        faults.tell(where, "class", sorted(names[label] for label in bad), what)
    return seen


def _tail(path: str, below: str) -> str:
    """A picture's path below its folder, from its path on the authors' machine; "" if unknown."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    _, found, tail = f"/{'/'.join(parts)}".rpartition(f"/{below}/" if below else "/")
    return tail if found else ""


def _held_out(trainval: Iterable[tuple[str, int]]) -> set[str]:
    """The paths that are put aside as val: a tenth of each class's."""
    of_class: dict[int, list[str]] = defaultdict(list)
    for path, label in trainval:
        of_class[label].append(path)
    val: set[str] = set()
    for paths in of_class.values():
        n_val = max(1, round(0.1 * len(paths))) if len(paths) > 1 else 0
        val.update(by_hash(paths)[:n_val])
    return val


def _split_version(locs: Locs) -> str:
    """Counts and a hash of the official split.

    The authors published a version 1 and a version 2 with different results, and the files do not
    say which they are: this line tells one from the other, but does not name it.
    """
    whole = hashlib.sha256()
    for name in LOCS:
        loc = np.sort(locs[name]).astype("<i8")
        whole.update(f"{name} {len(loc)}\n".encode() + loc.tobytes())
    counts = [f"{name.removesuffix('_loc')} {len(locs[name])}" for name in LOCS]
    return f"{', '.join(counts)}, sha256 {whole.hexdigest()[:16]}"
