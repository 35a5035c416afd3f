"""What may be said of where Ray runs. Light: --help needs it."""

import os
import re

_HOST_AND_PORT = re.compile(r"[^\s:/]+:\d+")


def address_fault(address: str) -> str | None:
    """The line that refuses an address; None if it can be meant.

    Ray Client is refused, be it in RAY_ADDRESS: through it Tune pickles its searcher and callbacks
    and runs on the head, so signals, progress and what is written would be those of copies.
    """
    named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    local = address in ("local", "auto") or _HOST_AND_PORT.fullmatch(address)
    if local and not named.startswith("ray://"):
        return None
    got = f"{named!r}" if named == address else f"{named!r} by RAY_ADDRESS"
    return f"--address must be local, auto or HOST:PORT, and not Ray Client's, got {got}"
