"""The address of an MLflow store: what is wrong with it, and whether the store answers there."""

import re
import socket
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from harness.wording import error_text, first_line

CONNECT_SECONDS: Final = 5
_SERVERS: Final = {"http": 80, "https": 443}
# SQLAlchemy's names of databases whose drivers take connect_timeout.
_WITH_TIMEOUT: Final = ("postgresql", "mysql", "mariadb")

SQLITE = "sqlite:///"
# Where a tracking server's clients keep files, itself or a cloud's storage. Not plain addresses: to
# any of them MLflow would send the token of the tracking server.
SERVED = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs", "dbfs", "hdfs")
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
    if re.match("(?i)sqlite[:+]", uri):  # sqlite:// is gone with the process
        return f"an sqlite store is a file: write {SQLITE}FILE"
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
    if ":" in scheme:  # it is a user, and the mark stands in the password
        return False
    if uri.startswith("file:///"):
        return True
    user, _, place = rest.rpartition("@")
    found = _PLACE.fullmatch(place)
    if found is None or re.search(r"[\s@?#]", user) or "/" in user.partition(":")[0]:
        return False
    if scheme.lower() not in ("http", "https"):
        return True
    host, _, _, options = found.groups()
    return bool(host) and options is None and "/" not in user


def store_fault(error: BaseException, uri: str) -> str:
    """Return why a store cannot be used, in one line that may hold secrets of its address.

    `mlflow server` answers 403 to a host name that it was not started for (--allowed-hosts).
    """
    if "Invalid Host header" not in error_text(error):
        return first_line(error)
    host = urlsplit(uri).netloc.rpartition("@")[2]
    return f"the server does not accept the host name {host}. Start it with --allowed-hosts {host}"


def reach_database(uri: str) -> None:
    """Connect to a database once. MLflow tries ten times, and logs a warning for each.

    Args:
        uri: The store's address. Files and servers are not looked at.

    Raises:
        Exception: Whatever SQLAlchemy and the database's driver raise.
    """
    scheme, mark, _ = uri.partition("://")
    database = scheme.partition("+")[0]
    if not mark or database not in (*_WITH_TIMEOUT, "mssql"):
        return
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    keys = {}
    if database in _WITH_TIMEOUT and "connect_timeout" not in url.query:
        keys["connect_timeout"] = CONNECT_SECONDS
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=keys)
    with closing(engine.connect()):
        return


def reach_server(uri: str) -> None:
    """Connect to a tracking server's port once. MLflow may wait for minutes.

    Args:
        uri: The store's address. Files, databases and servers behind a proxy are not looked at.

    Raises:
        requests.exceptions.ConnectionError: Nothing listens there, or the host does not answer.
    """
    parts = urlsplit(uri)
    if parts.scheme not in _SERVERS or parts.scheme in getproxies() or not parts.hostname:
        return
    from requests.exceptions import ConnectionError as NoConnection

    place = parts.hostname, parts.port or _SERVERS[parts.scheme]
    try:
        socket.create_connection(place, CONNECT_SECONDS).close()
    except OSError as error:
        raise NoConnection(f"no connection: {error.strerror or error}") from error
