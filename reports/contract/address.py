"""How a store's address is read."""

import re
from urllib.parse import urlsplit

SQLITE = "sqlite:///"
# Some versions of SQLAlchemy take this for the character that it stands for, others do not.
_ENCODED = re.compile("%[0-9A-Fa-f]{2}")
# What follows a user and password: a host, a port, a path and, of a database, options.
_PLACE = re.compile(r"(\[[^\s/?#@\[\]]+\]|[^\s/?#@\[\]:]*)(:\d*)?(/[^\s?#]*)?(\?\S*)?")


def address_fault(uri: str) -> str | None:
    """What is wrong with a store's address; None: nothing that can be seen by looking at it.

    Where it is not well formed, nobody knows which part of it is a password: none of it is shown,
    and no library gets it, whose errors show pieces of it.
    """
    if uri.startswith(SQLITE):
        return _options_fault(uri)
    if _is_well_formed(uri):
        return None
    return (
        "the store's address is not well formed, and is not shown, as it may hold a password: in a "
        "user or password write @ / ? # and spaces as %40 %2F %3F %23 and %20; a tracking server "
        "has a host and perhaps a port, and takes no options (MLFLOW_TRACKING_URI)"
    )


def _options_fault(uri: str) -> str | None:
    """What is wrong with an sqlite store's address that has options.

    A store is known by its address: its lock, and the writes that wait for it, would be another's
    with ?timeout=30 behind it. What an address cannot hold is a fault, too: a path with ? or %40.
    """
    plain, mark, rest = uri.partition("?")
    if "/" in rest or _ENCODED.search(plain):
        return (
            f"{uri}: the address of an sqlite store can have no ? and no % with two digits in its "
            f"path: name a store in another folder (MLFLOW_TRACKING_URI)"
        )
    return f"{uri}: an sqlite store takes no options: write {plain}" if mark else None


def _is_well_formed(uri: str) -> bool:
    """Whether all that read an address agree on its user, password and host.

    SQLAlchemy takes a slash in a password, urllib does not. A path, and file:///, have no user.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return re.match("(?s)[^/]*:.*@", uri) is None
    if uri.startswith("file:///"):
        return True
    user, _, place = rest.rpartition("@")
    found = _PLACE.fullmatch(place)
    if found is None or re.search(r"[\s@?#]", user) or "/" in user.partition(":")[0]:
        return False
    if scheme.lower() not in ("http", "https"):
        return True
    host, _, _, options = found.groups()
    return bool(host) and options is None and "/" not in user and _has_port(uri)


def _has_port(uri: str) -> bool:
    """Whether urllib can read a web address, and its port is one."""
    try:
        return urlsplit(uri).port != 0
    except ValueError:
        return False
