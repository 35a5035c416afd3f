"""Arrays on disk by key, a safetensors file each: written as a whole, and checked when read."""

import hashlib
import json
import logging
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ship.whole_file import write_whole

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 3
"""Raised by hand whenever this file writes something that an older one would misread."""

_NAME: Final = "features"

Features = Float32[np.ndarray, "pictures views feature"]


def cache_key(parts: Mapping[str, str | int]) -> str:
    """Hash of everything that decides the array's values (64 hex digits)."""
    whole = {"format_version": FORMAT_VERSION, **parts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def cache_path(cache_dir: Path, label: str, key: str, rows: str) -> Path:
    """The file of some rows of an array.

    Args:
        cache_dir: where it lies.
        label: names dataset, backbone and split for people who list the folder; what a file's name
            cannot have becomes "_".
        key: of cache_key.
        rows: which they are.
    """
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", label)[:80]
    return cache_dir / f"{readable}-{key[:24]}.{rows}.safetensors"


def read_features(path: Path, key: str, rows: tuple[int, int]) -> Features | None:
    """Read an array, after its checksum was verified.

    The checksum finds accidents. Whoever may write to the folder can make files that pass.

    Args:
        path: of the array.
        key: that it must have been written under.
        rows: pictures and views that it must have.

    Returns:
        None where there is none, or it is not sound: then a warning names it, and it is removed.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        with safe_open(path, framework="numpy") as file:
            said, found = file.metadata() or {}, np.asarray(file.get_tensor(_NAME))
        if said.get("key") != key:
            raise ValueError("it was written for something else")
        if found.dtype != np.float32 or found.ndim != 3 or found.shape[:2] != rows:
            raise ValueError(f"its shape is {found.shape}, its type {found.dtype}")
        if said.get("blake2b") != _checksum(key, found):
            raise ValueError("its checksum differs")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SafetensorError) as why:
        logger.warning("cached features %s cannot be used (%s): extracting again", path, why)
        with suppress(OSError):  # whoever looks again need not be told again
            path.unlink()
        return None
    return found


def write_features(path: Path, key: str, features: Features) -> bool:
    """Write an array so that readers see all of it or nothing.

    A folder that cannot be written costs a warning, not the features: they are only not kept.

    Args:
        path: of the array.
        key: that it is read under.
        features: of the rows.

    Returns:
        Whether it was written.
    """
    array = np.ascontiguousarray(features)
    content = save({_NAME: array}, {"key": key, "blake2b": _checksum(key, array)})
    try:
        write_whole(path, content)
    except OSError as why:
        logger.warning("features cannot be kept in %s (%s)", path.parent, why.strerror)
        return False
    return True


def _checksum(key: str, features: Features) -> str:
    said = hashlib.blake2b(f"{key} {features.shape}".encode(), digest_size=16)
    said.update(features.data)
    return said.hexdigest()
