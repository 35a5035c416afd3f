"""Check the form of an MLflow store's address, and whether the store answers."""

import os
import re
import socket
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from harness.wording import error_text, first_error_line

CONNECT_SECONDS: Final = 5
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# SQLAlchemy's names of databases whose drivers have the option connect_timeout.
_TIMEOUT_DATABASES: Final = ("postgresql", "mysql", "mariadb")

SQLITE = "sqlite:///"
# Schemes of addresses at which runs of a tracking server have their files: the server itself or
# cloud storage. http and https are excluded, because MLflow would send them the server's token.
ARTIFACT_SCHEMES = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs", "dbfs", "hdfs")
# A code such as %40. Some versions of SQLAlchemy decode it in a path, others do not.
_PERCENT_CODE = re.compile("%[0-9A-Fa-f]{2}")
# Matches the part of an address after user and password: host, port, path, a database's options.
_HOST_AND_PATH = re.compile(r"(\[[^\s/?#@\[\]]+\]|[^\s/?#@\[\]:]*)(:\d*)?(/[^\s?#]*)?(\?\S*)?")


def default_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the address of mlflow.db in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path.cwd() / 'mlflow.db'}"


def address_fault(uri: str) -> str | None:
    """Return what is wrong with the form of a store's address, or None if it is valid.

    Any part of a malformed address may be a password. The address is therefore not shown, and not
    passed to a library, whose errors could show parts of it.
    """
    if uri.startswith(SQLITE):
        return _find_sqlite_fault(uri)
    if re.match("(?i)sqlite[:+]", uri):  # e.g. sqlite://, a store in memory
        return f"an sqlite store must be a file. Write {SQLITE}FILE"
    if _is_well_formed(uri):
        return None
    return (
        "the store's address (MLFLOW_TRACKING_URI) is malformed. It is not shown because it may "
        "contain a password. In a user name or password, write @ / ? # and spaces as %40 %2F %3F "
        "%23 and %20. A tracking server has a host, an optional port and no options"
    )


def _find_sqlite_fault(uri: str) -> str | None:
    """Return what is wrong with the path or options of an sqlite store's address, or None.

    Options such as ?timeout=30 are refused: a study's lock is named by the store's address, so two
    drivers with different options would not exclude each other. Paths with ? are refused because it
    begins the options, and paths with codes such as %40 because they are ambiguous.
    """
    base_uri, mark, query = uri.partition("?")
    if "/" in query or _PERCENT_CODE.search(base_uri):
        return (
            f"{uri}: the path of an sqlite store cannot contain ? or % followed by two digits. Use "
            f"a store in another folder (MLFLOW_TRACKING_URI)"
        )
    return f"{uri}: an sqlite store has no options. Write {base_uri}" if mark else None


def _is_well_formed(uri: str) -> bool:
    """Return True if SQLAlchemy and urllib find the same user, password and host in an address.

    A password with a slash is valid for a database, because SQLAlchemy accepts it, but not for a
    server, because urllib does not. Paths and file:/// addresses have no user and no host, and are
    valid. A server also needs a host, and must have no options.
    """
    scheme, mark, location = uri.partition("://")
    if not mark:
        return re.match("(?s)[^/]*:.*@", uri) is None
    if ":" in scheme:  # the scheme is a user name, and :// is part of the password
        return False
    if uri.startswith("file:///"):
        return True
    user, _, host_and_path = location.rpartition("@")
    match = _HOST_AND_PATH.fullmatch(host_and_path)
    if match is None or re.search(r"[\s@?#]", user) or "/" in user.partition(":")[0]:
        return False
    if scheme.lower() not in ("http", "https"):
        return True
    host, _, _, options = match.groups()
    return bool(host) and options is None and "/" not in user


def store_fault(error: BaseException, uri: str) -> str:
    """Return in one line why a store cannot be used. The line may contain secrets of the address.

    It is the error's first line, except if `mlflow server` refused a host name that is not in its
    --allowed-hosts. The line then says how to start the server.
    """
    if "Invalid Host header" not in error_text(error):
        return first_error_line(error)
    host = urlsplit(uri).netloc.rpartition("@")[2]
    return f"the server does not accept the host name {host}. Start it with --allowed-hosts {host}"


def reach_database(uri: str) -> None:
    """Connect to a database once, to report a fault soon.

    MLflow would try ten times, and log a warning each time.

    Args:
        uri: Address of the store. sqlite files and servers are not checked.

    Raises:
        Exception: Any error of SQLAlchemy or the database's driver.
    """
    scheme, mark, _ = uri.partition("://")
    database = scheme.partition("+")[0]
    if not mark or database not in (*_TIMEOUT_DATABASES, "mssql"):
        return
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    options = {}
    if database in _TIMEOUT_DATABASES and "connect_timeout" not in url.query:
        options["connect_timeout"] = CONNECT_SECONDS
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=options)
    with closing(engine.connect()):
        return


def reach_server(uri: str) -> None:
    """Connect to a tracking server's port once, to report a fault soon.

    MLflow might try for minutes.

    Args:
        uri: Address of the store. Files, databases and servers behind a proxy are not checked.

    Raises:
        requests.exceptions.ConnectionError: The port is closed, or the host does not answer.
    """
    parts = urlsplit(uri)
    if parts.scheme not in _DEFAULT_PORTS or parts.scheme in getproxies() or not parts.hostname:
        return
    from requests.exceptions import ConnectionError as NoConnection

    endpoint = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
    try:
        socket.create_connection(endpoint, CONNECT_SECONDS).close()
    except OSError as error:
        raise NoConnection(f"no connection: {error.strerror or error}") from error
