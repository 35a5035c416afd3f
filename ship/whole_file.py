"""Small files that readers see as a whole or not at all, and what a killed writer leaves."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_ABANDONED_SECONDS: Final = 3600
"""A temporary file that nobody has written to for so long has no writer any more."""


def read_whole(path: Path, most: int) -> bytes:
    """A file's content; a device or a pipe, which might never end, is not opened.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        ValueError: there is no such file, it cannot be read, or it is too large; with its path.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: must be a regular file, not a folder, pipe or device")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise ValueError(f"{path}: has more than {most} bytes")
    return content


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, in place of the old one if there is one; its folder is made.

    It is written beside it and then moved there. A writer that is killed in between leaves its
    temporary file, which a later write into the same folder removes after an hour.

    Args:
        path: of the file.
        content: all of it.

    Raises:
        OSError: it cannot be written; the old file is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    # not tempfile's, which nobody but their owner may read: a group shares its cache
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for left in folder.glob(".*.tmp"):
        with suppress(OSError):  # another writer sweeps, too
            if left.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                left.unlink()
