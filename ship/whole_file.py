"""Read small files whole, and write them atomically, removing temporary files of killed writers."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_ABANDONED_SECONDS: Final = 3600
"""Age after which a temporary file is deleted, because its writer must have been killed."""


def read_whole(path: Path, max_bytes: int) -> bytes:
    """Read a whole regular file. Devices and pipes, which might never end, are rejected.

    Args:
        path: Path of the file.
        max_bytes: Maximum size in bytes.

    Raises:
        ValueError: The file is missing, unreadable, too large or not a regular file. The message
            begins with its path.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: must be a regular file, not a folder, pipe or device")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise ValueError(f"{path}: has more than {max_bytes} bytes")
    return content


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically, replacing an old one. Missing folders are created.

    The content is written to a temporary file in the same folder, which is then renamed. A killed
    writer leaves its temporary file. A later call for the same folder deletes it once it is an hour
    old.

    Args:
        path: Path of the file.
        content: Complete content.

    Raises:
        OSError: The file cannot be written. An old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    # tempfile's files are readable by their owner only, but a group may share a cache
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Delete temporary files in a folder whose writers were killed."""
    for temporary in folder.glob(".*.tmp"):
        with suppress(OSError):  # another writer may have removed it
            if temporary.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                temporary.unlink()
