"""MATLAB files of version 5 to 7: numbers, texts and cells of the two, by scipy.io.loadmat.

Layout: MAT-File Format, MathWorks, chapter 1 ("Level 5 MAT-Files"). SciPy crashes the interpreter
on some damaged files (1.17: a type code outside of its table), or makes the huge array that one
speaks of. So it gets only the variables that are wanted, unpacked within a limit, and only where
each element's type, size and shape can be.
"""

import io
import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

Value = np.ndarray | list["Value"] | str | None
"""A matrix of numbers, a cell array in MATLAB's order, a text, or None for anything else.

A text of several rows is a list of its rows.
"""

LARGEST: Final = 1 << 28
"""Bytes of the wanted variables, unpacked; a data set's lists are a few million."""

DEEPEST: Final = 2
"""Levels of cells; lists of names have one."""

_HEADER: Final = 128
_NAMED: Final = 1024
"""Bytes of a variable, packed or not, among which its name must stand."""
_TYPES: Final = frozenset((*range(1, 8), 9, *range(12, 19)))
_MATRIX, _PACKED = 14, 15
_CELL, _READ = 1, frozenset((1, 4, *range(6, 16)))  # classes: cells, texts, numbers


class MatError(ValueError):
    """A file that cannot be read; the message says why, without the file's name."""


def read_mat(path: Path, wanted: Collection[str]) -> dict[str, Value]:
    """Read the named variables; others are passed over, and absent ones are absent.

    Raises:
        MatError: the file is not sound as far as it was looked at, or a variable is too large.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER)
    order = _order(header)
    variables = np.memmap(path, np.uint8, "r").data[_HEADER:]  # reads what is looked at
    return _read(header, variables, order, wanted)


def _order(header: bytes) -> str:
    """struct's sign of the file's byte order."""
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise MatError("it has no such header")
    (version,) = struct.unpack(f"{order}H", header[124:126])
    if version != 0x0100:
        raise MatError("it is of version 7.3 (HDF5)" if version == 0x0200 else "unknown version")
    return order


def _read(
    header: bytes, variables: memoryview, order: str, wanted: Collection[str]
) -> dict[str, Value]:
    from scipy.io import loadmat  # noqa: TID251 - of what was looked through

    kept, found, left = [header], dict[str, Value](), LARGEST
    for kind, content in _elements(variables, order):
        name, of_class = _name(kind, content[:_NAMED], order)
        if name in wanted and of_class in _READ:
            variable = _unpacked(kind, content, left, order)
            left -= len(variable)
            _check(variable, order)
            kept.append(struct.pack(f"{order}II", _MATRIX, len(variable)) + variable)
        elif name in wanted:
            found[name] = None
    # SciPy would take MATLAB's characters of 16 bits for UTF-8
    codec = "utf-16-le" if order == "<" else "utf-16-be"
    try:
        values = loadmat(io.BytesIO(b"".join(kept)), uint16_codec=codec)
    except Exception as why:  # SciPy raises many kinds for what it cannot read
        raise MatError(" ".join(str(why).split()) or type(why).__name__) from why
    return found | {name: _plain(values[name]) for name in wanted if name in values}


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the elements that stand one behind another."""
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise MatError("it ends within an element")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start, padding = place + 8, 0 if kind == _PACKED else -size % 8
        if kind >> 16:  # a small one: type and size share a word, the content is the other
            kind, size, start, padding = kind & 0xFFFF, kind >> 16, place + 4, 4 - (kind >> 16)
        if kind not in _TYPES or padding < 0 or start + size > len(data):
            raise MatError("an element has a type or a size that cannot be")
        yield kind, data[start : start + size]
        place = start + size + padding


def _name(kind: int, head: memoryview, order: str) -> tuple[str, int]:
    """Name, "" for none, and class of a variable by its first bytes."""
    if kind == _PACKED:
        head = memoryview(_inflated(head, _NAMED)[8:])  # behind the tag of the matrix
    parts = []
    try:
        for _, content in _elements(head, order):
            parts.append(bytes(content))
    except MatError:
        pass  # the head ends somewhere
    if kind not in (_MATRIX, _PACKED) or not parts or len(parts[0]) != 8:
        raise MatError("it holds something else than variables")
    name = parts[2].decode("latin-1") if len(parts) > 2 else ""  # objects have none
    return name, struct.unpack_from(f"{order}I", parts[0])[0] & 0xFF


def _unpacked(kind: int, content: memoryview, most: int, order: str) -> bytes:
    """The content of a matrix."""
    if kind != _PACKED:
        if len(content) > most:
            raise MatError("its variables are too large")
        return bytes(content)
    data = _inflated(content, most + 1)
    if len(data) > most:
        raise MatError("its variables are too large")
    found = list(_elements(memoryview(data), order))
    if [inner for inner, _ in found] != [_MATRIX]:
        raise MatError("what is compressed is no matrix")
    return bytes(found[0][1])


def _inflated(packed: memoryview, most: int) -> bytes:
    """As much as is there, at most so many bytes."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error as why:
        raise MatError(f"what is compressed is damaged ({why})") from why


def _check(variable: bytes, order: str) -> None:
    """Elements that can be, in a matrix and in the cells of it, and no more places than bytes."""
    waiting = [(memoryview(variable), 0)]
    while waiting:
        content, depth = waiting.pop()
        parts = list(_elements(content, order))
        if len(parts) < 3 or len(parts[0][1]) != 8 or len(parts[1][1]) % 4:
            raise MatError("a matrix has no class or no shape")
        of_class = struct.unpack(f"{order}II", parts[0][1])[0] & 0xFF
        shape = [size for (size,) in struct.iter_unpack(f"{order}i", parts[1][1])]
        if of_class not in _READ or len(shape) < 2 or min(shape) < 0:
            raise MatError("a matrix has a class or a shape that cannot be")
        if math.prod(shape) > len(content):
            raise MatError("a matrix has a shape that does not fit its content")
        cells = [inner for kind, inner in parts[3:] if kind == _MATRIX]
        if of_class == _CELL and len(cells) != math.prod(shape):
            raise MatError("a cell array has a shape that does not fit its content")
        if cells and depth == DEEPEST:
            raise MatError("its cells are nested too deeply")
        waiting += [(cell, depth + 1) for cell in cells if len(cell)]


def _plain(value: Any) -> Value:
    """What loadmat gave, as plainly as it goes."""
    if value.dtype.kind == "O":  # a cell array, in MATLAB's order
        return [_plain(cell) for cell in value.ravel(order="F")]
    if value.dtype.kind == "U" and value.ndim <= 1:  # the rows of a text
        rows = [str(row) for row in value.ravel()]
        return [*rows] if len(rows) > 1 else "".join(rows)
    return value if value.dtype.kind in "iuf" else None
