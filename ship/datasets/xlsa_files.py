"""Reads res101.mat and att_splits.mat of the xlsa17 layout, whose content is not to be trusted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int64

from ship.datasets.base import some
from ship.datasets.mat_file import MatError, Value, read_mat
from ship.datasets.survey import slashed

LOCS: Final = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
"""The lists of pictures that make the official split; train_loc and val_loc are not used."""

Ids = Int64[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class XlsaFiles:
    """What the two files hold; to be relied on only where there is no fault.

    image_files: paths on the authors' machine. labels: of each picture, from 0.
    class_names: by label, as written; None where the file has none, as FLO's.
    locs: indices of pictures from 0, by the names of LOCS.
    """

    image_files: list[str] = field(default_factory=list)
    labels: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    class_names: list[str] | None = None
    locs: Mapping[str, Ids] = field(default_factory=dict)
    faults: Sequence[str] = ()

    @property
    def split_version(self) -> str:
        """Counts and a hash of the official split.

        The authors published a version 1 and a version 2 with different results, and the files do
        not say which they are: this line tells one from the other, but does not name it.
        """
        whole = hashlib.sha256()
        for name in LOCS:
            loc = np.sort(self.locs[name]).astype("<i8")
            whole.update(f"{name} {len(loc)}\n".encode() + loc.tobytes())
        counts = [f"{name.removesuffix('_loc')} {len(self.locs[name])}" for name in LOCS]
        return f"{', '.join(counts)}, sha256 {whole.hexdigest()[:16]}"


def read_xlsa_files(folder: Path) -> XlsaFiles:
    """Read both files and find everything that is wrong with them."""
    res101, splits = folder / "res101.mat", folder / "att_splits.mat"
    pictures, faults = _load(res101, ("image_files", "labels"))
    official, more = _load(splits, LOCS, ("allclasses_names",))
    faults += more
    image_files, wrong = _texts(res101, pictures, "image_files")
    labels, more = _integers(res101, pictures, "labels", None)
    faults += wrong + more
    if image_files and len(labels) and len(image_files) != len(labels):
        faults.append(f"{res101}: {len(image_files)} image_files but {len(labels)} labels")
    locs = {}
    for name in LOCS:
        locs[name], wrong = _integers(splits, official, name, len(labels) or None)
        faults += wrong
    faults += [f"{splits}: {fault}" for fault in _loc_faults(locs)]
    names: list[str] | None = None
    if "allclasses_names" in official:
        names, wrong = _texts(splits, official, "allclasses_names")
        faults += wrong
    return XlsaFiles(image_files, labels, names, locs, faults)


def _load(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, Value], list[str]]:
    """The variables that are there, and faults; a file that is not there is another's fault."""
    if not path.is_file():
        return {}, []
    try:
        found = read_mat(path, [*needed, *optional])
    except OSError as why:
        return {}, [f"{path}: cannot be read: {why.strerror}"]
    except MatError as why:
        return {}, [f"{path}: must be a MATLAB file of version 5 to 7: {why}"]
    absent = [name for name in needed if name not in found]
    return found, [f"{path}: has no {some(absent)}"] if absent else []


def _integers(
    path: Path, variables: Mapping[str, Value], name: str, highest: int | None
) -> tuple[Ids, list[str]]:
    """A vector that counts from 1, as indices from 0; and faults.

    Args:
        highest: the highest value allowed; None: any.
    """
    nothing = np.empty(0, dtype=np.int64)
    if name not in variables:
        return nothing, []
    value = variables[name]
    if not isinstance(value, np.ndarray) or value.size == 0 or value.size != max(value.shape):
        what = f"an array of {slashed(value.shape)}" if isinstance(value, np.ndarray) else "none"
        return nothing, [f"{path}: {name} must be a vector of numbers, is {what}"]
    flat = value.ravel()
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(flat) & (flat == np.floor(flat)) & (flat >= 1) & (flat < 2**31)
        if highest is not None:
            sound &= flat <= highest
    if not sound.all():
        until = f"1 to {highest}" if highest is not None else "1 and up"
        bad = some(f"{number:.9g}" for number in flat[~sound])
        return nothing, [f"{path}: {name} must be whole numbers of {until}, holds {bad}"]
    return flat.astype(np.int64) - 1, []


def _texts(path: Path, variables: Mapping[str, Value], name: str) -> tuple[list[str], list[str]]:
    """The texts of a cell array, or the rows of a text; and faults."""
    if name not in variables:
        return [], []
    value = variables[name]
    texts = [_text(cell) for cell in (value if isinstance(value, list) else [value])]
    bad = [f"{name}[{i + 1}]" for i, text in enumerate(texts) if not text]
    if bad or not texts:
        what = some(bad) if bad else f"{name} is empty"
        return [], [f"{path}: {name} must be a cell array of texts: {what}"]
    return [text for text in texts if text], []


def _text(cell: Value) -> str | None:
    while isinstance(cell, list) and len(cell) == 1:  # a text in a cell of its own
        cell = cell[0]
    return cell.strip() if isinstance(cell, str) else None


def _loc_faults(locs: Mapping[str, Ids]) -> list[str]:
    """Pictures that stand twice in a list, or in two of them; shown as MATLAB counts."""
    faults = []
    for name, loc in locs.items():
        values, times = np.unique(loc, return_counts=True)
        if (times > 1).any():
            faults.append(f"{name} has pictures more than once: {some(values[times > 1] + 1)}")
    for i, name in enumerate(LOCS):
        for other in LOCS[i + 1 :]:
            both = np.intersect1d(locs[name], locs[other])
            if len(both):
                faults.append(f"pictures both in {name} and {other}: {some(both + 1)}")
    return faults
