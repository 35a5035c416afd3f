"""One quick look whether a store is there, before MLflow's own tries, which take minutes."""

import socket
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

CONNECT_SECONDS: Final = 5
_SERVERS: Final = {"http": 80, "https": 443}
# SQLAlchemy's names of databases whose drivers take connect_timeout.
_WITH_TIMEOUT: Final = ("postgresql", "mysql", "mariadb")


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
