"""Read xlsa17's datasets for generalized zero-shot learning (AWA2, CUB, SUN, FLO).

Splits are those of Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the
Bad and the Ugly" (arXiv:1707.00600).

The MATLAB files are read here instead of by SciPy, because SciPy allocates any array size that a
file claims, and version 1.17 crashes the interpreter if a file has an unknown type code. Only the
requested variables of a file are read.
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
from typing import Any, ClassVar, Final

import numpy as np
from jaxtyping import Int64

from ship.datasets.base import DatasetScan, Faults, clean_class_name, shorten_list
from ship.datasets.layouts import Listing, PublishedDataset, format_counts, sort_by_hash
from ship.datasets.lists import read_json_object

LOCS: Final = ("trainval_loc", "test_seen_loc", "test_unseen_loc")
"""Variables with the image indices of the official split. train_loc and val_loc are not used."""
_NAMES: Final = "allclasses_names"
_MAX_INT: Final = 2**31 - 1

Ids = Int64[np.ndarray, " _"]
Value = np.ndarray | list[str]
"""A matrix of numbers, or a list of texts: the cells of a cell array or the rows of a char matrix.

Cells are in MATLAB's order (by columns), with "" for a cell that is not a single text.
"""

MAX_FILE_BYTES: Final = 1 << 26
"""Maximum decompressed bytes of all requested variables. Those of a dataset have a few MB."""
MAX_CELL_DEPTH: Final = 2
"""Maximum nesting of cell arrays. Lists of names have one level."""
_HEADER_BYTES: Final = 128
_NAME_BYTES: Final = 1024
"""Number of decompressed bytes at the start of a variable that are searched for its name."""
# MAT-File Format, MathWorks, chapter 1 ("Level 5 MAT-Files"): types of elements, classes of arrays
_NUMBERS: Final = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
                   12: "<i8", 13: "<u8"}  # fmt: skip
_CODECS: Final = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le",
                  18: "utf-32-le"}  # fmt: skip
_MATRIX, _PACKED = 14, 15
_CELL, _TEXT, _REAL = 1, 4, range(6, 16)


@dataclass(frozen=True)
class Xlsa(PublishedDataset):
    """A dataset of xlsa17: data_root/xlsa17/data/<DATASET> has the class and split of each image.

    The labels of seen classes come first, then those of unseen ones, each group sorted by name.

    The test split is test_seen and test_unseen together. The val split is a tenth of each class's
    trainval images, selected by the hash of their paths: at least one, unless the class has only
    one image. The train split is the rest of trainval.

    Attributes:
        folder: Folder of res101.mat and att_splits.mat, below data_root.
        image_folder: Folder of the images, below data_root.
        n_images: Published numbers of images in trainval, test_seen and test_unseen.
        root_folder: Name of the image folder on the authors' machine, whose paths res101.mat
            contains. The part of a path after the last occurrence of this name is the path relative
            to `image_folder`. "" uses only the file names.
        names_file: JSON file {"<class number>": "<name>"} below data_root, which is read if
            att_splits.mat has no names. "" if there is no such file.
    """

    root_folder: str = ""
    names_file: str = ""
    counted_parts: ClassVar[str] = "trainval/test_seen/test_unseen"

    @property
    def image_folder_path(self) -> str:
        """Folder of the images, relative to the data root. It is not below `folder`."""
        return self.image_folder

    def read(self, data_root: Path, faults: Faults) -> Listing:
        """Read res101.mat and att_splits.mat."""
        folder, image_dir = data_root / self.folder, data_root / self.image_folder_path
        images = _MatFile(folder / "res101.mat", faults)
        official = _MatFile(folder / "att_splits.mat", faults)
        if faults:
            return Listing(DatasetScan(), image_dir, folder)
        files, labels = images.get_texts("image_files"), images.get_indices("labels")
        if files and len(labels) and len(files) != len(labels):
            faults.append(f"{images.path}: {len(files)} image_files but {len(labels)} labels")
        locs = {loc: official.get_indices(loc, len(labels) or _MAX_INT) for loc in LOCS}
        indices, times = np.unique(np.concatenate([*locs.values()]), return_counts=True)
        rule = f"more than once in {shorten_list(LOCS)}"
        faults.add(official.path, "image", indices[times > 1] + 1, rule)
        names = self._read_class_names(official, data_root, labels, faults)
        if faults:  # further faults would only be consequences of these
            return Listing(DatasetScan(), image_dir, folder)
        seen = _find_seen_classes(folder, names, labels, locs, faults)
        order = sorted(range(len(names)), key=lambda label: (label not in seen, names[label]))
        label_of = {old: new for new, old in enumerate(order)}
        paths = [_strip_root(file, self.root_folder) for file in files]
        outside_files = [file for file, path in zip(files, paths, strict=True) if not path]
        faults.add(folder, "image_file", outside_files, f"outside of a folder {self.root_folder!r}")
        trainval, test_seen, test_unseen = (
            [i for i in np.sort(locs[loc]).tolist() if paths[i]] for loc in LOCS
        )
        val_paths = _select_val(paths, labels, trainval)
        entries = [("val" if paths[i] in val_paths else "train", i) for i in trainval]
        entries += [("test", i) for i in test_seen + test_unseen]
        rows = [(split, paths[i], label_of[int(labels[i])]) for split, i in entries]
        version = _describe_split(locs)
        note = f"{folder}: split of {version} (the files do not contain its version, 1 or 2)"
        class_names = tuple(names[old] for old in order)
        scan = DatasetScan(class_names, notes=(note,), n_seen=len(seen), split_version=version)
        return Listing(scan, image_dir, folder, rows, tuple(map(len, locs.values())))

    def _read_class_names(
        self, official: "_MatFile", data_root: Path, labels: Ids, faults: Faults
    ) -> list[str]:
        """Return the cleaned class names by label, from att_splits.mat or names_file."""
        if self.names_file and _NAMES not in official.variables:
            where = data_root / self.names_file
            raw = _read_numbered_names(where, faults)
        else:
            where, raw = official.path, official.get_texts(_NAMES)
        names = [clean_xlsa_name(name) for name in raw]
        faults.add_same_names(where, names)
        n_labels = int(labels.max()) + 1 if len(labels) else 0
        if names and n_labels > len(names):
            faults.append(f"{where}: has {len(names)} class names, but labels go up to {n_labels}")
        return names


def _read_numbered_names(path: Path, faults: Faults) -> list[str]:
    """Read class names by number from a JSON file {"1": "pink primrose", ...}."""
    names: list[str] = []
    with faults.add_errors(path):
        document = read_json_object(path)
        values: list[Any] = [document.get(str(i + 1)) for i in range(len(document))]
        if not values or not all(isinstance(name, str) for name in values):
            raise ValueError("must be an object with the keys 1, 2, ... and class names as values")
        names += values
    return names


def clean_xlsa_name(raw: str) -> str:
    """Turn "grizzly+bear", "001.Black_footed_Albatross" or "a/abbey" into words."""
    name = re.sub(r"^(\d+\.|[A-Za-z]/)", "", raw.strip())
    return clean_class_name(name.replace("+", " ").replace("/", " "))


def _find_seen_classes(
    where: Path, names: Sequence[str], labels: Ids, locs: Mapping[str, Ids], faults: Faults
) -> set[int]:
    """Return the labels of the seen classes, and report classes that do not fit the split."""
    seen, test_seen, unseen = ({*labels[loc].tolist()} for loc in locs.values())
    labels_by_fault = {
        "both seen and unseen": unseen & (seen | test_seen),
        "of test_seen_loc that trainval_loc lacks": test_seen - seen,
        "without images": {*range(len(names))} - seen - test_seen - unseen,
    }
    for fault, bad_labels in labels_by_fault.items():
        faults.add(where, "class", sorted(names[label] for label in bad_labels), fault)
    return seen


def _strip_root(path: str, folder: str) -> str:
    """Return the part of a path below a folder, or "" if the path does not contain the folder.

    Args:
        path: Path of an image on the authors' machine.
        folder: Name of the folder. If it occurs several times, the last one counts. "" means the
            folder that contains the image.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    _, separator, tail = f"/{'/'.join(parts)}".rpartition(f"/{folder}/" if folder else "/")
    return tail if separator else ""


def _select_val(paths: Sequence[str], labels: Ids, trainval: Sequence[int]) -> set[str]:
    """Select the paths of the val split, a tenth of each class. See Xlsa."""
    paths_by_class: dict[int, list[str]] = defaultdict(list)
    for i in trainval:
        paths_by_class[labels[i]].append(paths[i])
    val_paths: set[str] = set()
    for class_paths in paths_by_class.values():
        if len(class_paths) > 1:
            n_val = max(1, round(0.1 * len(class_paths)))
            val_paths.update(sort_by_hash(class_paths)[:n_val])
    return val_paths


def _describe_split(locs: Mapping[str, Ids]) -> str:
    """Describe the official split by the number of images of each list and a hash.

    The authors published different results for versions 1 and 2 of the files, which do not contain
    a version number. The hash is different for each version.
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
        with faults.add_errors(path):
            names = ("image_files", "labels", *LOCS, _NAMES)
            self.variables = read_mat(path, names)

    def get_indices(self, name: str, highest: int = _MAX_INT) -> Ids:
        """Return a vector of 1-based indices as 0-based ones. Empty if it has a fault.

        Args:
            name: Name of the variable.
            highest: Largest valid index, 1-based.
        """
        value, where = self.variables.get(name), f"{self.path}: {name}"
        if not isinstance(value, np.ndarray) or not 0 < value.size == max(value.shape):
            shape = value.shape if isinstance(value, np.ndarray) else ()
            description = f"an array of {format_counts(shape)}" if shape else "none"
            self._faults.append(f"{where} must be a vector of numbers, got {description}")
            return np.empty(0, dtype=np.int64)
        vector = value.ravel().astype(np.float64)
        bad_values = vector[~((vector == np.floor(vector)) & (vector >= 1) & (vector <= highest))]
        if bad_values.size:
            values = shorten_list(f"{number:.9g}" for number in bad_values)
            self._faults.append(f"{where} must be integers from 1 to {highest}, got {values}")
            return np.empty(0, dtype=np.int64)
        return vector.astype(np.int64) - 1

    def get_texts(self, name: str) -> list[str]:
        """Return the texts of a cell array, or the rows of a char matrix. Empty after a fault."""
        value = self.variables.get(name)
        texts = [text.strip() for text in value] if isinstance(value, list) else []
        empty_cells = [f"{name}[{i + 1}]" for i, text in enumerate(texts) if not text]
        if empty_cells or not texts:
            actual = (
                f"empty {shorten_list(empty_cells)}" if empty_cells else "none, or an empty one"
            )
            self._faults.append(f"{self.path}: {name} must be a cell array of texts, got {actual}")
        return [] if empty_cells else texts


def read_mat(path: Path, names: Collection[str]) -> dict[str, Value]:
    """Read the requested variables of a MATLAB file. Variables that it lacks are omitted.

    Args:
        path: Path of the file.
        names: Names of the variables.

    Raises:
        ValueError: The file is missing, not of version 5 to 7, or damaged in the part that is read,
            or the variables exceed MAX_FILE_BYTES.
        OSError: The file cannot be read.
    """
    if not path.is_file():  # a pipe might never end
        raise ValueError("no such file")
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header[124:] != b"\0\1IM":
        raise ValueError("must be a MATLAB file of version 5 to 7, little-endian (7.3 is HDF5)")
    values: dict[str, Value] = {}
    bytes_left = MAX_FILE_BYTES
    variables = np.memmap(path, np.uint8, "r").data[_HEADER_BYTES:]  # reads only what is accessed
    for kind, content in _split_elements(variables):
        name = _read_name(_unpack_matrix(kind, content[:_NAME_BYTES], _NAME_BYTES))
        if name not in names:
            continue
        # The limit includes a tag of 8 bytes, and 1 byte to notice that the variable is too large.
        matrix = _unpack_matrix(kind, content, bytes_left + 9)
        if len(matrix) > bytes_left:
            raise ValueError(f"its variables have more than {MAX_FILE_BYTES} bytes")
        bytes_left -= len(matrix)
        try:
            values[name] = _parse_matrix(matrix)
        except (LookupError, ValueError, struct.error) as error:
            raise ValueError(f"{name} is damaged, or not a valid matrix: {error}") from error
    return values


def _split_elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and content of each element. Raise ValueError if one is damaged."""
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


def _unpack_matrix(kind: int, content: memoryview, limit: int) -> memoryview:
    """Return the first bytes of a variable, decompressed.

    Args:
        kind: Type of the element that contains the variable.
        content: Content of the element.
        limit: Maximum number of bytes to decompress, including the tag of a compressed variable.
    """
    if kind == _MATRIX:
        return content[:limit]
    if kind != _PACKED:
        raise ValueError("is damaged: it contains something other than variables")
    try:
        return memoryview(zlib.decompressobj().decompress(content, limit))[8:]  # without its tag
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from error


def _read_name(matrix: memoryview) -> str:
    """Return a variable's name from its first bytes. "" for MATLAB objects, which have none."""
    head: list[memoryview] = []
    with suppress(ValueError):  # the first bytes may end within an element
        for _, part in islice(_split_elements(matrix), 3):
            head.append(part)
    if not head or len(head[0]) != 8:
        raise ValueError("is damaged: it contains something other than variables")
    return bytes(head[2]).decode("latin-1") if len(head) == 3 else ""


def _parse_matrix(matrix: memoryview, depth: int = 0) -> Value:
    """Return the content of a matrix.

    Args:
        matrix: Bytes of the matrix.
        depth: Number of cell arrays that contain the matrix.

    Raises:
        ValueError: The content does not fit the shape, or is of an unsupported type.
    """
    (_, flags), (_, dims), _, *parts = _split_elements(matrix)
    array_class, complex_numbers = struct.unpack("<BB6x", flags)
    shape = np.frombuffer(dims, "<i4").tolist()
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError("its shape is not that of a matrix")
    if array_class == _CELL:
        cells = [inner for kind, inner in parts if kind == _MATRIX]
        if len(cells) != math.prod(shape) or (cells and depth == MAX_CELL_DEPTH):
            raise ValueError("its cells do not fit its shape, or are nested too deeply")
        values = [_parse_matrix(cell, depth + 1) if len(cell) else [] for cell in cells]
        return [text[0] if isinstance(text, list) and len(text) == 1 else "" for text in values]
    if array_class != _TEXT and (array_class not in _REAL or complex_numbers & 8):
        raise ValueError("it contains neither numbers nor texts")
    kind, content = parts[0] if parts else (2, memoryview(b""))
    if array_class in _REAL:
        return np.frombuffer(content, _NUMBERS[kind]).reshape(shape, order="F")
    text = bytes(content).decode(_CODECS[kind])
    if len(text) != math.prod(shape):
        raise ValueError("its characters do not fit its shape")
    return [text[row :: shape[0]] for row in range(shape[0] if text else 0)]
