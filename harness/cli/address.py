"""What --address may be; light, as it is looked at before anything is imported."""

import os
import re

_HOST_AND_PORT = re.compile(r"[^\s:/]+:\d+")
_CLIENT = "ray://"


def address_fault(address: str) -> str | None:
    """The line that refuses an address; None if it can be meant.

    Ray Client is refused, be it in RAY_ADDRESS: through it Tune pickles its searcher and callbacks
    and runs on the head, so signals, progress and what is written would be those of copies.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else ""
    if address.startswith(_CLIENT) or named.startswith(_CLIENT):
        got = f"RAY_ADDRESS={named!r}" if named else repr(address)
        return (
            "--address must not be Ray Client's, through which Tune does not run in this process: "
            "use --address auto on a node of the cluster, or `ray job submit` from elsewhere "
            f"(ship-sweep --deploy readme), got {got}"
        )
    if address in ("local", "auto") or _HOST_AND_PORT.fullmatch(address):
        return None
    return f"--address must be local, auto or HOST:PORT, got {address!r}"
