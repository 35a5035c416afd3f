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
_DIGITS: Final = 32


def digest(data: bytes) -> str:
    """Return the BLAKE2b checksum of a file's content, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=_DIGITS // 2).hexdigest()


def add_checksum(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON file whose first key is the checksum of the other keys.

    Args:
        content: The object, with at least one key.
    """
    body = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return _HEAD + digest(body).encode() + _TAIL + body.removeprefix(b"{")


def check_content(data: bytes) -> bytes:
    """Return the JSON object of a file written with add_checksum, without its checksum.

    Args:
        data: Content of the file.

    Raises:
        ValueError: The file has no checksum, or its content has changed since it was written.
    """
    start, end = len(_HEAD), len(_HEAD) + _DIGITS
    remainder = data[end:]
    if not data.startswith(_HEAD) or not remainder.startswith(_TAIL):
        raise ValueError("does not begin with its checksum: it was changed after it was written")
    body = b"{" + remainder.removeprefix(_TAIL)
    if digest(body).encode() != data[start:end]:
        raise ValueError("does not match its checksum: it was changed after it was written")
    return body
