"""Arrays on disk by key: atomic writes, a checksum, memory-mapped reads.

One array a file, in safetensors' format: 8 bytes of header length, a JSON header, the data. The
library's own reader copies; here the array is a view of the mapped file, shared by processes.
"""

import hashlib
import json
import logging
import mmap
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
"""Raised by hand whenever this file writes something that an older one would misread."""

_TENSOR: Final = "features"
_LENGTH_BYTES: Final = 8
_LONGEST_HEADER: Final = 1 << 20

Features = Float32[np.ndarray, "..."]


def cache_key(parts: Mapping[str, str | int]) -> str:
    """Hash of everything that decides the array's values (64 hex digits)."""
    whole = {"format_version": FORMAT_VERSION, **parts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def cache_path(cache_dir: Path, label: str, key: str) -> Path:
    """The file of a key and a label, which is there for people who list the folder."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", label)[:80]
    return cache_dir / f"{readable}-{key[:24]}.safetensors"


def read_features(path: Path, key: str) -> Features | None:
    """Map an array into memory, read-only, after its checksum was verified.

    Returns:
        None where there is no such file, or where it is not sound: then a warning names it.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _decode(mapped, key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as why:
        logger.warning("cached features %s cannot be used (%s): extracting again", path, why)
        return None


def write_features(path: Path, key: str, features: Features) -> None:
    """Write an array so that readers see all of it or nothing.

    A folder that cannot be written costs a warning, not the features: they are only not kept.
    """
    data = np.ascontiguousarray(features, dtype="<f4").data.cast("B")
    header = _header(key, features.shape, data)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(header)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as why:
        logger.warning("features cannot be kept in %s (%s)", path.parent, why.strerror)


def _header(key: str, shape: tuple[int, ...], data: memoryview) -> bytes:
    header = {
        "__metadata__": {"key": key, "checksum": _checksum(data)},
        _TENSOR: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, len(data)]},
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
        dtype, shape, offsets = tensor["dtype"], tuple(tensor["shape"]), tensor["data_offsets"]
    except (ValueError, KeyError, TypeError) as why:
        raise ValueError("no sound header") from why
    if stored_key != key:
        raise ValueError("it was written for something else")
    if dtype != "F32" or offsets != [0, len(mapped) - start]:
        raise ValueError(f"{len(mapped) - start} bytes of data, its header says {offsets}")
    if _checksum(memoryview(mapped)[start:]) != checksum:
        raise ValueError("its checksum differs")
    return np.frombuffer(mapped, dtype="<f4", offset=start).reshape(shape)


def _checksum(data: memoryview) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
