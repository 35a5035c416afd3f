"""How a store's address is read."""

import re

SQLITE = "sqlite:///"
# Some versions of SQLAlchemy take this for the character that it stands for, others do not.
_ENCODED = re.compile("%[0-9A-Fa-f]{2}")


def options_fault(uri: str) -> str | None:
    """What is wrong with an sqlite store's address that has options; None: it has none.

    A store is known by its address: its lock, and the writes that wait for it, would be another's
    with ?timeout=30 behind it. What an address cannot hold is a fault, too: a path with ? or %40.
    """
    if not uri.startswith(SQLITE):
        return None
    plain, mark, rest = uri.partition("?")
    if "/" in rest or _ENCODED.search(plain):
        return (
            f"{uri}: the address of an sqlite store can have no ? and no % with two digits in its "
            f"path: name a store in another folder (MLFLOW_TRACKING_URI)"
        )
    return f"{uri}: an sqlite store takes no options: write {plain}" if mark else None
