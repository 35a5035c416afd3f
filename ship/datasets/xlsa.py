"""Read xlsa17's datasets for generalized zero-shot learning (AWA2, CUB, SUN, FLO).

Splits are those of Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
Bad and the Ugly" (arXiv:1707.00600).

The MATLAB files are read here instead of by SciPy, which crashes the interpreter on some damaged
files (1.17: a type code outside of its table), and allocates any array size that a file claims.
Only the requested variables of a file are read.
"""

import hashlib
import math
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int64

from ship.datasets.base import DatasetScan, Faults, clean_class_name, shorten_list
from ship.datasets.layouts import Listing, Published, format_counts, sort_by_hash
from ship.datasets.lists import read_object

LOCS: Final = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
"""Lists of images that define the official split. train_loc and val_loc are not used."""
_NAMES: Final = "allclasses_names"
_MAX_INT: Final = 2**31 - 1

Ids = Int64[np.ndarray, " _"]
Value = np.ndarray | list[str]
"""A matrix of numbers, or a list of texts.

The texts are the cells of a cell array in MATLAB's order ("" for a cell that is not a single text),
or the rows of a text.
"""

MAX_FILE_BYTES: Final = 1 << 26
"""Maximum size of the requested variables, unpacked. The lists of a dataset have a few MB."""
MAX_CELL_DEPTH: Final = 2
"""Maximum nesting of cells. Lists of names have one level."""
_HEADER: Final = 128
_NAMED: Final = 1024
"""Number of unpacked bytes at the start of a variable that must contain its name."""
# MAT-File Format, MathWorks, chapter 1 ("Level 5 MAT-Files"): types of elements, classes of arrays
_NUMBERS: Final = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
                   12: "<i8", 13: "<u8"}  # fmt: skip
_CODECS: Final = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le",
                  18: "utf-32-le"}  # fmt: skip
_MATRIX, _PACKED = 14, 15
_CELL, _TEXT, _REAL = 1, 4, range(6, 16)


@dataclass(frozen=True)
class Xlsa(Published):
    """A dataset of xlsa17: data_root/xlsa17/data/<DATASET> has the class and split of each image.

    Seen classes come first, then unseen ones, each group sorted by name.

    val is a tenth of each class's trainval images, selected by the hash of their paths, and at
    least one image of a class with two or more. train has the other trainval images. test is
    test_seen and test_unseen together.

    Attributes:
        folder: Folder of res101.mat and att_splits.mat, below data_root.
        images: Folder of the images, below data_root.
        counts: Published numbers of images in trainval, test_seen and test_unseen.
        root_folder: Last folder of the prefix to remove from the paths in the files, which are
            paths on the authors' machine. "" removes all folders.
        names_file: File {"<class number>": "<name>"} below data_root, which is read if
            att_splits.mat has no names. "" if there is no such file.
    """

    root_folder: str = ""
    names_file: str = ""

    @property
    def image_dir(self) -> str:
        """Folder of the images, relative to the data root. It is not below `folder`."""
        return self.images

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read res101.mat and att_splits.mat."""
        folder, image_dir = data_root / self.folder, data_root / self.image_dir
        images = _MatFile(folder / "res101.mat", faults)
        official = _MatFile(folder / "att_splits.mat", faults)
        if faults:
            return Listing(DatasetScan(), image_dir, folder)
        files, labels = images.texts("image_files"), images.indices("labels")
        if files and len(labels) and len(files) != len(labels):
            faults.append(f"{images.path}: {len(files)} image_files but {len(labels)} labels")
        locs = {loc: official.indices(loc, len(labels) or _MAX_INT) for loc in LOCS}
        indices, times = np.unique(np.concatenate([*locs.values()]), return_counts=True)
        faults.add(official.path, "image", indices[times > 1] + 1, f"twice in {shorten_list(LOCS)}")
        names = self._class_names(official, data_root, labels, faults)
        if faults:  # further faults would only be consequences of these
            return Listing(DatasetScan(), image_dir, folder)
        seen = _seen_classes(folder, names, labels, locs, faults)
        order = sorted(range(len(names)), key=lambda label: (label not in seen, names[label]))
        label_of = {old: new for new, old in enumerate(order)}
        paths = [_tail(file, self.root_folder) for file in files]
        outside_files = [file for file, path in zip(files, paths, strict=True) if not path]
        faults.add(folder, "image_file", outside_files, f"outside of a folder {self.root_folder!r}")
        trainval, test_seen, test_unseen = (
            [i for i in np.sort(locs[loc]).tolist() if paths[i]] for loc in LOCS
        )
        val = _held_out(paths, labels, trainval)
        kinds = [("val" if paths[i] in val else "train", i) for i in trainval]
        kinds += [("test", i) for i in test_seen + test_unseen]
        rows = [(split, paths[i], label_of[int(labels[i])]) for split, i in kinds]
        version = _split_version(locs)
        note = f"{folder}: split of {version} (the files do not contain its version, 1 or 2)"
        class_names = tuple(names[old] for old in order)
        scan = DatasetScan(class_names, notes=(note,), n_seen=len(seen), split_version=version)
        return Listing(scan, image_dir, folder, rows, tuple(map(len, locs.values())))

    def _class_names(
        self, official: "_MatFile", data_root: Path, labels: Ids, faults: Faults
    ) -> list[str]:
        """Return cleaned class names by the files' labels, from att_splits.mat or names_file."""
        if self.names_file and _NAMES not in official.variables:
            where = data_root / self.names_file
            raw = _numbered_names(where, faults)
        else:
            where, raw = official.path, official.texts(_NAMES)
        names = [clean_xlsa_name(name) for name in raw]
        faults.add_same_names(where, names)
        n_labels = int(labels.max()) + 1 if len(labels) else 0
        if names and n_labels > len(names):
            faults.append(f"{where}: has {len(names)} class names, but labels go up to {n_labels}")
        return names


def _numbered_names(path: Path, faults: Faults) -> list[str]:
    """Read class names from {"1": "pink primrose", ...}."""
    names: list[str] = []
    with faults.catch(path):
        document = read_object(path)
        values: list[Any] = [document.get(str(i + 1)) for i in range(len(document))]
        if not values or not all(isinstance(name, str) for name in values):
            raise ValueError("must be an object of class names by the numbers 1, 2, ...")
        names += values
    return names


def clean_xlsa_name(raw: str) -> str:
    """Turn "grizzly+bear", "001.Black_footed_Albatross" or "a/abbey" into words."""
    name = re.sub(r"^(\d+\.|[A-Za-z]/)", "", raw.strip())
    return clean_class_name(name.replace("+", " ").replace("/", " "))


def _seen_classes(
    where: Path, names: Sequence[str], labels: Ids, locs: Mapping[str, Ids], faults: Faults
) -> set[int]:
    """Return the labels of the seen classes, and report classes that contradict the split."""
    seen, test_seen, unseen = ({*labels[loc].tolist()} for loc in locs.values())
    labels_by_fault = {
        "both seen and unseen": unseen & (seen | test_seen),
        "of test_seen_loc that trainval_loc lacks": test_seen - seen,
        "without images": {*range(len(names))} - seen - test_seen - unseen,
    }
    for what, bad_labels in labels_by_fault.items():
        faults.add(where, "class", sorted(names[label] for label in bad_labels), what)
    return seen


def _tail(path: str, folder: str) -> str:
    """Return the part of an image's path on the authors' machine that follows a folder.

    Args:
        path: Path on the authors' machine.
        folder: Name of the folder. "" means the last folder of the path.

    Returns:
        The part below the folder, or "" if the path does not contain the folder.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    _, separator, tail = f"/{'/'.join(parts)}".rpartition(f"/{folder}/" if folder else "/")
    return tail if separator else ""


def _held_out(paths: Sequence[str], labels: Ids, trainval: Sequence[int]) -> set[str]:
    """Select the paths of the val split, a tenth of each class."""
    of_class: dict[int, list[str]] = defaultdict(list)
    for i in trainval:
        of_class[labels[i]].append(paths[i])
    n_val = {label: max(1, round(0.1 * len(ps))) for label, ps in of_class.items() if len(ps) > 1}
    return {path for label, n in n_val.items() for path in sort_by_hash(of_class[label])[:n]}


def _split_version(locs: Mapping[str, Ids]) -> str:
    """Return counts and a hash of the official split.

    The authors published versions 1 and 2 with different results, and the files do not contain
    their version. The hash distinguishes them without naming the version.
    """
    digest = hashlib.sha256()
    for name, loc in locs.items():
        digest.update(f"{name} {len(loc)}\n".encode() + np.sort(loc).astype("<i8").tobytes())
    counts = [f"{name.removesuffix('_loc')} {len(loc)}" for name, loc in locs.items()]
    return f"{', '.join(counts)}, sha256 {digest.hexdigest()[:16]}"


class _MatFile:
    """The requested variables of a MATLAB file. Damaged or invalid ones are reported as faults.

    Attributes:
        path: Path of the file.
        variables: Requested variables that the file contains, by name.
    """

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path, self._faults = path, faults
        self.variables: dict[str, Value] = {}
        with faults.catch(path):
            names = ("image_files", "labels", *LOCS, _NAMES)
            self.variables = read_mat(path, names)

    def indices(self, name: str, highest: int = _MAX_INT) -> Ids:
        """Return a vector of 1-based indices as 0-based ones, empty if it has faults.

        Args:
            name: Name of the variable.
            highest: Maximum value in the file.
        """
        value, where = self.variables.get(name), f"{self.path}: {name}"
        if not isinstance(value, np.ndarray) or not 0 < value.size == max(value.shape):
            shape = value.shape if isinstance(value, np.ndarray) else ()
            what = f"an array of {format_counts(shape)}" if shape else "none"
            self._faults.append(f"{where} must be a vector of numbers, got {what}")
            return np.empty(0, dtype=np.int64)
        vector = value.ravel().astype(np.float64)
        bad_values = vector[~((vector == np.floor(vector)) & (vector >= 1) & (vector <= highest))]
        if bad_values.size:
            values = shorten_list(f"{number:.9g}" for number in bad_values)
            self._faults.append(f"{where} must be integers from 1 to {highest}, got {values}")
            return np.empty(0, dtype=np.int64)
        return vector.astype(np.int64) - 1

    def texts(self, name: str) -> list[str]:
        """Return the texts of a cell array, or the rows of a text. Empty if a text has a fault."""
        value = self.variables.get(name)
        texts = [text.strip() for text in value] if isinstance(value, list) else []
        empty_cells = [f"{name}[{i + 1}]" for i, text in enumerate(texts) if not text]
        if empty_cells or not texts:
            what = f"empty {shorten_list(empty_cells)}" if empty_cells else "none, or an empty one"
            self._faults.append(f"{self.path}: {name} must be a cell array of texts, got {what}")
        return [] if empty_cells else texts


def read_mat(path: Path, names: Collection[str]) -> dict[str, Value]:
    """Read the requested variables of a MATLAB file. Variables that it lacks are omitted.

    Args:
        path: Path of the file.
        names: Names of the variables.

    Raises:
        ValueError: The file is missing, is not of version 5 to 7, or is damaged in the part that is
            read; or the variables are too large.
        OSError: The file cannot be read.
    """
    if not path.is_file():  # a pipe might never end
        raise ValueError("no such file")
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if header[124:] != b"\0\1IM":
        raise ValueError("must be a MATLAB file of version 5 to 7, little-endian (7.3 is HDF5)")
    values: dict[str, Value] = {}
    bytes_left = MAX_FILE_BYTES
    variables = np.memmap(path, np.uint8, "r").data[_HEADER:]  # reads only what is accessed
    for kind, content in _elements(variables):
        name = _read_name(_matrix(kind, content[:_NAMED], _NAMED))
        if name not in names:
            continue
        matrix = _matrix(kind, content, bytes_left + 9)
        if len(matrix) > bytes_left:
            raise ValueError("its variables are too large")
        bytes_left -= len(matrix)
        try:
            values[name] = _value(matrix)
        except (LookupError, ValueError, struct.error) as why:
            raise ValueError(f"{name} is damaged, or not a valid matrix: {why}") from why
    return values


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and content of consecutive elements."""
    offset = 0
    while offset < len(data):
        if offset + 8 > len(data):
            raise ValueError("is damaged: it ends within an element")
        kind, size = struct.unpack_from("<II", data, offset)
        start, padding = offset + 8, 0 if kind == _PACKED else -size % 8
        if kind >> 16:  # a small element: type and size share a word, followed by the content
            kind, size, start, padding = kind & 0xFFFF, kind >> 16, offset + 4, 4 - (kind >> 16)
        if padding < 0 or start + size > len(data):
            raise ValueError("is damaged: an element has an impossible size")
        yield kind, data[start : start + size]
        offset = start + size + padding


def _matrix(kind: int, content: memoryview, limit: int) -> memoryview:
    """Return the first bytes of a variable, unpacked.

    Args:
        kind: Type of the variable's element.
        content: Content of the element.
        limit: Maximum number of bytes.
    """
    if kind == _MATRIX:
        return content[:limit]
    if kind != _PACKED:
        raise ValueError("is damaged: it contains something other than variables")
    try:
        return memoryview(zlib.decompressobj().decompress(content, limit))[8:]  # without its tag
    except zlib.error as why:
        raise ValueError(f"is damaged: {why}") from why


def _read_name(matrix: memoryview) -> str:
    """Return the name of a variable from its first bytes, or "" if it has none, as objects do."""
    head: list[memoryview] = []
    with suppress(ValueError):  # the first bytes may end within an element
        for _, part in islice(_elements(matrix), 3):
            head.append(part)
    if not head or len(head[0]) != 8:
        raise ValueError("is damaged: it contains something other than variables")
    return bytes(head[2]).decode("latin-1") if len(head) == 3 else ""


def _value(matrix: memoryview, depth: int = 0) -> Value:
    """Return the content of a matrix.

    Args:
        matrix: Bytes of the matrix.
        depth: Number of cell arrays that contain it.

    Raises:
        ValueError: The content does not fit the shape, or is of an unsupported type.
    """
    (_, flags), (_, dims), _, *parts = _elements(matrix)
    of_class, complex_numbers = struct.unpack("<BB6x", flags)
    shape = np.frombuffer(dims, "<i4").tolist()
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError("its shape is not that of a matrix")
    if of_class == _CELL:
        cells = [inner for kind, inner in parts if kind == _MATRIX]
        if len(cells) != math.prod(shape) or (cells and depth == MAX_CELL_DEPTH):
            raise ValueError("its cells do not fit its shape, or are nested too deeply")
        values = [_value(cell, depth + 1) if len(cell) else [] for cell in cells]
        return [text[0] if isinstance(text, list) and len(text) == 1 else "" for text in values]
    if of_class != _TEXT and (of_class not in _REAL or complex_numbers & 8):
        raise ValueError("it contains neither numbers nor texts")
    kind, content = parts[0] if parts else (2, memoryview(b""))
    if of_class in _REAL:
        return np.frombuffer(content, _NUMBERS[kind]).reshape(shape, order="F")
    text = bytes(content).decode(_CODECS[kind])
    if len(text) != math.prod(shape):
        raise ValueError("its characters do not fit its shape")
    return [text[row :: shape[0]] for row in range(shape[0] if text else 0)]
