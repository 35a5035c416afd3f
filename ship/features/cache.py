"""Arrays on disk by key: atomic writes, a checksum, memory-mapped reads.

One array a file, in safetensors' format: 8 bytes of header length, a JSON header, the data. The
library's own reader copies; here the array is a view of the mapped file, shared by processes.
"""

import hashlib
import json
import logging
import math
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from jaxtyping import Float32

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
"""Raised by hand whenever this file writes something that an older one would misread."""

_TENSOR: Final = "features"
_LENGTH_BYTES: Final = 8
_LONGEST_HEADER: Final = 1 << 20

Features = Float32[np.ndarray, "..."]
Shape = tuple[int | None, ...]


def cache_key(parts: Mapping[str, str | int]) -> str:
    """Hash of everything that decides the array's values (64 hex digits)."""
    whole = {"format_version": FORMAT_VERSION, **parts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def cache_path(cache_dir: Path, label: str, key: str) -> Path:
    """The file of a key and a label, which is there for people who list the folder."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", label)[:80]
    return cache_dir / f"{readable}-{key[:24]}.safetensors"


def read_features(path: Path, key: str, shape: Shape | None = None) -> Features | None:
    """Map an array into memory, read-only, after its checksum was verified.

    The checksum finds accidents. Whoever may write to the folder can make a file that passes.

    Args:
        shape: that it must have, None for a size that is not known; None: any.
    Returns:
        None where there is no such file, or where it is not sound: then a warning names it, and
        it is removed.
    """
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is no file")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found = _decode(mapped, key)
        if shape is not None and not _fits(found.shape, shape):
            raise ValueError(f"its shape is {found.shape}")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as why:
        logger.warning("cached features %s cannot be used (%s): extracting again", path, why)
        with suppress(OSError):
            path.unlink()  # whoever looks again need not be told again
        return None


def write_features(path: Path, key: str, features: Features, *, sync: bool = True) -> bool:
    """Write an array so that readers see all of it or nothing; see write_parts."""
    return write_parts(path, key, features.shape, [features], sync=sync)


def write_parts(
    path: Path,
    key: str,
    shape: tuple[int, ...],
    parts: Iterable[Features],
    *,
    sync: bool = True,
) -> bool:
    """Write an array that comes in parts, of which only one has to be in memory at a time.

    A folder that cannot be written costs a warning, not the features: they are only not kept.

    Args:
        shape: of the whole.
        parts: the whole's rows in order.
        sync: wait for the disk, so that not even a power cut leaves a file that is not sound.
    Returns:
        Whether the file was written.
    Raises:
        ValueError: the parts are not as much as the shape says; nothing is written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                _write(file, key, shape, parts)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as why:
        logger.warning("features cannot be kept in %s (%s)", path.parent, why.strerror)
        return False
    return True


def _write(file: BinaryIO, key: str, shape: tuple[int, ...], parts: Iterable[Features]) -> None:
    checksum = _hash()
    file.write(_header(key, shape, checksum.hexdigest()))  # as long as the final one
    written = 0
    for part in parts:
        data = np.ascontiguousarray(part, dtype="<f4").data.cast("B")
        checksum.update(data)
        written += file.write(data)
    if written != _bytes(shape):
        raise ValueError(f"features of shape {shape} have {_bytes(shape)} bytes, got {written}")
    file.seek(0)
    file.write(_header(key, shape, checksum.hexdigest()))


def _header(key: str, shape: tuple[int, ...], checksum: str) -> bytes:
    header = {
        "__metadata__": {"key": key, "checksum": checksum},
        _TENSOR: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, _bytes(shape)]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _decode(mapped: mmap.mmap, key: str) -> Features:
    length = int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    if length > min(_LONGEST_HEADER, len(mapped) - _LENGTH_BYTES):
        raise ValueError("no sound header")
    start = _LENGTH_BYTES + length
    try:
        header: Any = json.loads(mapped[_LENGTH_BYTES:start])
        metadata, tensor = header["__metadata__"], header[_TENSOR]
        stored_key, checksum = metadata["key"], metadata["checksum"]
        shape = tuple(tensor["shape"])
    except (ValueError, KeyError, TypeError, RecursionError) as why:
        raise ValueError("no sound header") from why
    if stored_key != key:
        raise ValueError("it was written for something else")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("no sound header")
    if _bytes(shape) != len(mapped) - start:
        raise ValueError(f"{len(mapped) - start} bytes of data, its shape is {shape}")
    actual = _checksum(memoryview(mapped)[start:])
    if actual != checksum:
        raise ValueError("its checksum differs")
    if mapped[:start] != _header(key, shape, actual):  # the checksum is of the data alone
        raise ValueError("its header differs")
    return np.frombuffer(mapped, dtype="<f4", offset=start).reshape(shape)


def _fits(found: tuple[int, ...], wanted: Shape) -> bool:
    pairs = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(want in (None, size) for size, want in pairs)


def _checksum(data: memoryview) -> str:
    checksum = _hash()
    checksum.update(data)
    return checksum.hexdigest()


def _hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)


def _bytes(shape: tuple[int, ...]) -> int:
    return 4 * math.prod(shape)
