"""JSON files whose first key is the checksum of the rest.

The checksum detects damage and edits, but not forgery: anyone can compute a new one. The content is
still untrusted input.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

# A file consists of _HEAD, the checksum, _TAIL, and the rest of the JSON object.
_HEAD: Final = b'{\n "blake2b": "'
_TAIL: Final = b'",'
_HEX_DIGITS: Final = 32


def compute_checksum(data: bytes) -> str:
    """Return the BLAKE2b checksum of bytes, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=_HEX_DIGITS // 2).hexdigest()


def add_checksum(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON file whose first key is the checksum of the other keys.

    Args:
        content: The object, with at least one key.
    """
    body = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return _HEAD + compute_checksum(body).encode() + _TAIL + body.removeprefix(b"{")


def strip_checksum(data: bytes) -> bytes:
    """Verify the checksum of a file written with add_checksum, and remove it.

    Args:
        data: Content of the file.

    Returns:
        The JSON text without the checksum.

    Raises:
        ValueError: The file has no checksum at its beginning, or the checksum does not match the
            content.
    """
    start, end = len(_HEAD), len(_HEAD) + _HEX_DIGITS
    remainder = data[end:]
    if not data.startswith(_HEAD) or not remainder.startswith(_TAIL):
        raise ValueError(
            "has no checksum at its beginning: it was changed, or not written by ship-sweep"
        )
    body = b"{" + remainder.removeprefix(_TAIL)
    if compute_checksum(body).encode() != data[start:end]:
        raise ValueError(
            "its content does not match its checksum: changed or damaged after it was written"
        )
    return body
