"""Files that a setting names, held to the content that they have when it is checked."""

import hashlib
import re
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 64 * 2**20
_SEAL: Final = re.compile(r"(.+)\?sha256=([0-9a-f]{64})", re.DOTALL)


def sealed(path: str) -> str:
    """The path with the file's digest, "PATH?sha256=..."; one that has it already is left.

    Raises:
        ValueError: there is no such file, or it cannot be read or is too large.
    """
    if _SEAL.fullmatch(path):
        return path
    return f"{path}?sha256={hashlib.sha256(_content(Path(path))).hexdigest()}"


def opened(path: str) -> tuple[str, bytes]:
    """The path without the digest, and the file's content.

    Args:
        path: as `sealed` gives it.

    Raises:
        ValueError: there is no such file, it cannot be read or is too large, or its content is
            another one.
    """
    parts = _SEAL.fullmatch(path)
    if parts is None:
        raise ValueError(f"{path}: has no digest")
    content = _content(Path(parts[1]))
    if hashlib.sha256(content).hexdigest() != parts[2]:
        raise ValueError(f"{parts[1]}: is not the file that the study began with (sha256)")
    return parts[1], content


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():  # a device or a pipe might never end
            raise ValueError(f"{path}: there is no such file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path}: has more than {MOST_BYTES} bytes")
    return content
