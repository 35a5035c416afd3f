"""Arrays on disk by key: atomic writes, a checksum, memory-mapped reads.

An array is NAME.npy, and NAME.json beside it says what it is of: its key, shape, type and checksum.
The JSON is put in place last: an array without one was not finished.
"""

import hashlib
import io
import json
import logging
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from jaxtyping import Float

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 2
"""Raised by hand whenever this file writes something that an older one would misread."""

_LONGEST_JSON: Final = 1 << 16
_DTYPES: Final = ("<f4", "<f2")

Features = Float[np.ndarray, "..."]
"""Of single or half precision."""
Shape = tuple[int | None, ...]


def cache_key(parts: Mapping[str, str | int]) -> str:
    """Hash of everything that decides the array's values (64 hex digits)."""
    whole = {"format_version": FORMAT_VERSION, **parts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def cache_path(cache_dir: Path, label: str, key: str) -> Path:
    """The array of a key and a label, which is there for people who list the folder.

    Args:
        cache_dir: where it lies.
        label: names dataset, backbone and split; what a file's name cannot have becomes "_".
        key: of cache_key.
    """
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", label)[:80]
    return cache_dir / f"{readable}-{key[:24]}.npy"


def read_features(path: Path, key: str, shape: Shape | None = None) -> Features | None:
    """Map an array into memory, read-only, after its checksum was verified.

    The checksum finds accidents. Whoever may write to the folder can make files that pass.

    Args:
        path: of the array.
        key: that it must have been written under.
        shape: that it must have, None for a size that is not known; None: any.

    Returns:
        None where there is none, or it is not sound: then a warning names it, and it is removed.
    """
    for attempt in (1, 2):  # another process may have put it there, or removed it, meanwhile
        try:
            found = _read(path, key)
            if shape is not None and not _fits(found.shape, shape):
                raise ValueError(f"its shape is {found.shape}")
            return found
        except FileNotFoundError as why:
            if not path.exists() and not _json(path).exists():
                return None
            if attempt == 2:
                _refuse(path, f"there is no {Path(why.filename).name}")
        except (OSError, ValueError) as why:
            _refuse(path, why)
            return None
    return None


def write_features(path: Path, key: str, features: Features, *, sync: bool = True) -> bool:
    """Write an array so that readers see all of it or nothing.

    Args:
        path: of the array.
        key: that it is read under.
        features: of single or half precision.
        sync: wait for the disk, so that not even a power cut leaves files that are not sound.

    Returns:
        Whether it was written; if not, a warning has said why.
    """
    return write_parts(path, key, features.shape, [features], sync=sync, dtype=features.dtype)


def write_parts(
    path: Path,
    key: str,
    shape: tuple[int, ...],
    parts: Iterable[Features],
    *,
    sync: bool = True,
    dtype: np.dtype[Any] | None = None,
) -> bool:
    """Write an array that comes in parts, of which only one has to be in memory at a time.

    A folder that cannot be written costs a warning, not the features: they are only not kept.

    Args:
        path: of the array.
        key: that it is read under.
        shape: of the whole.
        parts: the whole's rows in order.
        sync: wait for the disk, so that not even a power cut leaves files that are not sound.
        dtype: of the whole: half precision; anything else is kept as single precision.

    Returns:
        Whether it was written; if not, a warning has said why.

    Raises:
        ValueError: the parts are not as much as the shape says; nothing is written.
    """
    dtype = np.dtype("<f2" if dtype == np.float16 else "<f4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as array, _temporary(_json(path)) as said:
            with array.open("xb") as file:
                checksum = _write(file, shape, dtype, parts)
                _finish(file, sync)
            with said.open("xb") as file:
                file.write(_described(path, key, shape, dtype, checksum))
                _finish(file, sync)
            array.replace(path)
            said.replace(_json(path))
    except OSError as why:
        logger.warning("features cannot be kept in %s (%s)", path.parent, why.strerror)
        return False
    return True


def remove_features(path: Path) -> None:
    """Remove an array and its JSON, as far as they are there.

    Raises:
        OSError: one of them cannot be removed.
    """
    path.unlink(missing_ok=True)
    _json(path).unlink(missing_ok=True)


def _json(path: Path) -> Path:
    return path.with_suffix(".json")


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside a file's, under which nothing is left."""
    found = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield found
    finally:
        found.unlink(missing_ok=True)


def _finish(file: BinaryIO, sync: bool) -> None:
    file.flush()
    if sync:
        os.fsync(file.fileno())


def _write(
    file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[Features]
) -> str:
    """Write a .npy file and return its checksum."""
    header = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    file.write(header.getvalue())
    checksum, wanted = _hash(header.getvalue()), dtype.itemsize * math.prod(shape)
    written = 0
    for part in parts:
        data = np.ascontiguousarray(part, dtype=dtype).reshape(-1).view(np.uint8).data
        checksum.update(data)
        written += file.write(data)
    if written != wanted:
        raise ValueError(f"features of shape {shape} have {wanted} bytes, got {written}")
    return checksum.hexdigest()


def _described(
    path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], checksum: str
) -> bytes:
    """The JSON of an array."""
    array = {"shape": list(shape), "dtype": dtype.str, "blake2b": checksum}
    said = {"format": FORMAT_VERSION, "key": key, "arrays": {path.name: array}}
    return json.dumps(said, indent=1).encode()


def _read(path: Path, key: str) -> Features:
    """The array, of which everything that its JSON says is true."""
    said = _content(_json(path))
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, _hash).hexdigest()
        file.seek(0)
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise ValueError("it is no array")  # but maybe an archive, which NumPy would open
    if checksum.encode() not in said:
        raise ValueError("its checksum differs")
    if key.encode() not in said:
        raise ValueError("it was written for something else")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as why:  # only of a file that was made to pass: NumPy raises many kinds
        raise ValueError("it is no array") from why
    if found.dtype.str not in _DTYPES:
        raise ValueError("it is no array of features")
    if said != _described(path, key, found.shape, found.dtype, checksum):
        raise ValueError(f"{_json(path).name} differs")
    return np.asarray(found)


def _content(path: Path) -> bytes:
    """A small file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path.name} is no file")
    with path.open("rb") as file:
        return file.read(_LONGEST_JSON)


def _refuse(path: Path, why: object) -> None:
    logger.warning("cached features %s cannot be used (%s): extracting again", path, why)
    with suppress(OSError):  # whoever looks again need not be told again
        remove_features(path)


def _fits(found: tuple[int, ...], wanted: Shape) -> bool:
    pairs = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(want in (None, size) for size, want in pairs)


def _hash(data: bytes = b"") -> "hashlib.blake2b":
    return hashlib.blake2b(data, digest_size=16)
