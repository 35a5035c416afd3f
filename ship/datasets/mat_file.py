"""A strict reader of MATLAB files of version 5 to 7: numbers, texts and cells of the two.

scipy.io.loadmat crashes the interpreter on some damaged files (SciPy 1.17: a type code outside of
its table), and these files come from the web. Format: MathWorks, "MAT-File Format", level 5.
"""

import os
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

Value = np.ndarray | list["Value"] | str | None
"""A matrix of numbers, a cell array in MATLAB's order, a text, or None for anything else.

A text of several rows is a list of its rows.
"""

LARGEST: Final = 1 << 28
"""Bytes that a variable may unpack to; those of a data set's lists are a few million."""

_HEADER, _TAG, _PEEK, _DEEPEST = 128, 8, 1024, 4
_COMPRESSED, _MATRIX = 15, 14
_CELL, _CHAR, _OPAQUE, _NUMERIC = 1, 4, 17, range(6, 16)
_NUMBERS: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS: Final = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
_COMPLEX = 0x0800


class MatError(ValueError):
    """A file that cannot be read; the message says why, without the file's name."""


def read_mat(path: Path, wanted: Collection[str]) -> dict[str, Value]:
    """Read the named variables; others are passed over unread, and absent ones are absent.

    Raises:
        MatError: the file is not sound as far as it was looked at.
        OSError: it cannot be read.
    """
    found: dict[str, Value] = {}
    with path.open("rb") as file:
        order = _byte_order(file.read(_HEADER))
        size = os.fstat(file.fileno()).st_size
        at = _HEADER
        while at < size:
            file.seek(at)
            tag = np.frombuffer(_exactly(file, _TAG), f"{order}u4")
            kind, n_bytes = int(tag[0]), int(tag[1])
            at += _TAG + n_bytes
            if kind not in (_COMPRESSED, _MATRIX) or at > size:
                raise MatError("it is cut short or holds no variable where one should be")
            start = file.read(min(n_bytes, _PEEK))
            body = _unpacked(start, order, _PEEK) if kind == _COMPRESSED else start
            name = _head(_Elements(body, order)).name
            if name not in wanted:
                continue
            if n_bytes > LARGEST:
                raise MatError("a variable is cut short or too large")
            body = start + _exactly(file, n_bytes - len(start))
            if kind == _COMPRESSED:
                body = _unpacked(body, order, None)
            found[name] = _value(_Elements(body, order), depth=0)
    return found


def _byte_order(header: bytes) -> str:
    """ "<" or ">"."""
    orders = {b"IM": "<", b"MI": ">"}
    if len(header) < _HEADER or header[126:] not in orders:
        raise MatError("it has no such header")
    order = orders[header[126:]]
    version = int(np.frombuffer(header[124:126], f"{order}u2")[0])
    if version != 0x0100:
        raise MatError("it is of version 7.3 (HDF5)" if version == 0x0200 else "unknown version")
    return order


def _exactly(file: BinaryIO, n: int) -> bytes:
    found = file.read(n)
    if len(found) < n:
        raise MatError("it is cut short")
    return found


def _unpacked(packed: bytes, order: str, peek: int | None) -> bytes:
    """The body of the matrix in a compressed element: its first bytes, or the whole."""
    engine = zlib.decompressobj()
    try:
        plain = engine.decompress(packed, LARGEST if peek is None else peek)
    except zlib.error as why:
        raise MatError("a variable cannot be unpacked") from why
    if len(plain) < _TAG:
        raise MatError("a variable is cut short or too large")
    kind, n_bytes = np.frombuffer(plain[:_TAG], f"{order}u4").tolist()
    if kind != _MATRIX:
        raise MatError("a variable is no matrix")
    if peek is None and (not engine.eof or n_bytes != len(plain) - _TAG):
        raise MatError("a variable is cut short or too large")
    return plain[_TAG:]


class _Elements:
    """Reads tagged elements one after another, never beyond the end."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._at = 0
        self.order = order

    def next(self) -> tuple[int, bytes]:
        """(type code, content) of the next element."""
        kind, n_bytes = np.frombuffer(self._take(_TAG), f"{self.order}u4").tolist()
        if kind >> 16:  # a small element: size and type in one word, the content in the other
            kind, n_bytes = kind & 0xFFFF, kind >> 16
            self._at -= 4
            return kind, self._take(4)[:n_bytes] if n_bytes <= 4 else self._take(n_bytes)
        content = self._take(n_bytes)
        self._at = min(self._at + -n_bytes % 8, len(self._data))
        return kind, content

    def _take(self, n: int) -> bytes:
        found = self._data[self._at : self._at + n]
        if len(found) < n:
            raise MatError("an element goes beyond its variable")
        self._at += n
        return found


@dataclass(frozen=True)
class _Head:
    """Class code of an array, whether it is complex, its shape and name."""

    code: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str


def _head(elements: _Elements) -> _Head:
    kind, flags = elements.next()
    if kind != 6 or len(flags) != 8:
        raise MatError("an array has no sound head")
    word = int(np.frombuffer(flags, f"{elements.order}u4")[0])
    if word & 0xFF == _OPAQUE:  # tables and other objects, whose heads are different
        return _Head(_OPAQUE, False, (0, 0), "")
    (kind, shape), (_, name) = elements.next(), elements.next()
    if kind != 5 or len(shape) % 4 or len(shape) < 8:
        raise MatError("an array has no sound head")
    sizes = tuple(np.frombuffer(shape, f"{elements.order}i4").tolist())
    if min(sizes) < 0:
        raise MatError("an array has a negative size")
    return _Head(word & 0xFF, bool(word & _COMPLEX), sizes, name.decode("latin-1"))


def _value(elements: _Elements, depth: int) -> Value:
    head = _head(elements)
    if head.code == _CELL:
        return _cell(elements, prod(head.shape), depth)
    if head.code == _CHAR:
        return _text(elements, head.shape)
    if head.code not in _NUMERIC or head.is_complex:
        return None
    kind, content = elements.next()
    if kind not in _NUMBERS:
        raise MatError(f"numbers of an unknown type, {kind}")
    dtype = np.dtype(elements.order + _NUMBERS[kind])
    if len(content) != prod(head.shape) * dtype.itemsize:
        raise MatError("an array has not as many numbers as its shape says")
    try:
        return np.frombuffer(content, dtype).reshape(head.shape, order="F")
    except ValueError as why:  # nothing by a huge size, or more dimensions than NumPy has
        raise MatError("an array has an impossible shape") from why


def _cell(elements: _Elements, n: int, depth: int) -> Value:
    if depth >= _DEEPEST:
        raise MatError("cells within cells within cells")
    values: list[Value] = []
    for _ in range(n):  # ends where the content does, whatever n claims
        kind, content = elements.next()
        if kind != _MATRIX:
            raise MatError("a cell is no matrix")
        values.append(_value(_Elements(content, elements.order), depth + 1) if content else None)
    return values


def _text(elements: _Elements, shape: tuple[int, ...]) -> Value:
    if not prod(shape):
        return ""
    kind, content = elements.next()
    little = elements.order == "<"
    try:
        if kind in _TEXTS:
            suffix = "" if kind == 16 else ("-le" if little else "-be")
            text = content.decode(_TEXTS[kind] + suffix)
        elif kind == 4:  # characters of 16 bits
            text = content.decode("utf-16-le" if little else "utf-16-be")
        elif kind in (1, 2):
            text = content.decode("latin-1")
        else:
            raise MatError(f"text of an unknown type, {kind}")
    except UnicodeDecodeError as why:
        raise MatError("text that cannot be decoded") from why
    if shape[0] == 1:
        return text
    if len(text) != prod(shape) or len(shape) != 2:
        raise MatError("a text has not as many characters as its shape says")
    return [text[row :: shape[0]] for row in range(shape[0])]
