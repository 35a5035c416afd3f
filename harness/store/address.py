"""Check the form of an MLflow store's address, and whether the store answers."""

import os
import re
import socket
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from harness.wording import format_error_text, get_first_error_line

CONNECT_SECONDS: Final = 5
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# SQLAlchemy's names of databases whose drivers have the option connect_timeout.
_TIMEOUT_DATABASES: Final = ("postgresql", "mysql", "mariadb")

SQLITE = "sqlite:///"
# Allowed URI schemes of the artifacts of a tracking server's runs. http and https are excluded,
# because MLflow would send the server's token to any such host.
ARTIFACT_SCHEMES = ("mlflow-artifacts", "s3", "gs", "abfss", "wasbs", "dbfs", "hdfs")
# Some versions of SQLAlchemy decode %XX (e.g. %40) in a path, others do not.
_PERCENT_CODE = re.compile("%[0-9A-Fa-f]{2}")
# Matches the part of an address after user and password: host, port, path, and options.
_HOST_AND_PATH = re.compile(r"(\[[^\s/?#@\[\]]+\]|[^\s/?#@\[\]:]*)(:\d*)?(/[^\s?#]*)?(\?\S*)?")


def get_default_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the address of mlflow.db in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{Path.cwd() / 'mlflow.db'}"


def find_address_fault(uri: str) -> str | None:
    """Return what is wrong with the form of a store's address, or None if it is valid.

    Any part of a malformed address may be a password. It is therefore not shown in the message, and
    callers must not pass it to a library whose errors could show it.
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
        "%23 and %20. A tracking server has a host, an optional port (at most 65535) and no options"
    )


def _find_sqlite_fault(uri: str) -> str | None:
    """Return what is wrong with the path or options of an sqlite store's address, or None.

    Options such as ?timeout=30 are refused: a study's lock is named after the store's address, so
    two drivers with different options would not exclude each other. A ? in the path would begin the
    options. Codes such as %40 are refused because SQLAlchemy's versions read them differently.
    """
    base_uri, mark, query = uri.partition("?")
    if "/" in query or _PERCENT_CODE.search(base_uri):
        return (
            f"{uri}: the path of an sqlite store cannot contain ?, or % followed by two "
            f"hexadecimal digits. Use a store in another folder (MLFLOW_TRACKING_URI)"
        )
    return f"{uri}: an sqlite store has no options. Write {base_uri}" if mark else None


def _is_well_formed(uri: str) -> bool:
    """Return True if SQLAlchemy and urllib find the same user, password and host in an address.

    A password with a slash is valid for a database, because SQLAlchemy accepts it, but not for a
    server, because urllib does not. Paths and file:/// addresses have no user and no host, and are
    valid. A server must also have a host, a valid port if any, and no options.
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
    try:
        _ = urlsplit(uri).port
    except ValueError:  # the port is above 65535, or a host in brackets is no IP address
        return False
    host, _, _, options = match.groups()
    return bool(host) and options is None and "/" not in user


def store_fault(error: BaseException, uri: str) -> str:
    """Return in one line why a store cannot be used. The line may contain secrets of the address.

    This is the first line of the error. If `mlflow server` answered 403 because the host name is
    not in its --allowed-hosts, the line says how to start the server instead.
    """
    if "Invalid Host header" not in format_error_text(error):
        return get_first_error_line(error)
    host = urlsplit(uri).netloc.rpartition("@")[2]
    return f"the server does not accept the host name {host}. Start it with --allowed-hosts {host}"


def reach_database(uri: str) -> None:
    """Connect to a database once, so that a fault is reported soon.

    MLflow would try ten times, and log a warning each time.

    Args:
        uri: Address of the store. Nothing is done for sqlite files and tracking servers.

    Raises:
        Exception: Any error of SQLAlchemy or the database's driver.
    """
    scheme, mark, _ = uri.partition("://")
    database = scheme.partition("+")[0]
    if not mark or database not in (*_TIMEOUT_DATABASES, "mssql"):
        return
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    connect_args = {}
    if database in _TIMEOUT_DATABASES and "connect_timeout" not in url.query:
        connect_args["connect_timeout"] = CONNECT_SECONDS
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=connect_args)
    with closing(engine.connect()):
        return


def reach_server(uri: str) -> None:
    """Connect to a tracking server's port once, so that a fault is reported soon.

    MLflow might try for minutes.

    Args:
        uri: Address of the store, in which `find_address_fault` finds no fault. Files, databases,
            and servers behind a proxy are not checked.

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
