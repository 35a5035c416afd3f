"""Tells a store that is away for a while from one that refuses what it is asked."""

import re

AGAIN = frozenset({408, 429})
NEVER = frozenset({501})  # not implemented
SERVERS = frozenset({"http", "https", "databricks"})

# MLflow's server answers 400 for some ways in which its database's connection is lost
_LOST = re.compile(
    r"\((?!sqlite3)[\w.]+\.(OperationalError|InterfaceError)\)|invalid transaction is rolled back"
)
_STATUS = re.compile(r"too many (\d{3}) error responses|error code (\d{3})")
_ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")
_SHOWN = 150


def transient(error: BaseException, uri: str) -> bool:
    """Whether the same call may get through later: no answer, 5xx, 429, a database that is away.

    Args:
        error: what MLflow's client raised.
        uri: of the store. MLflow itself makes no difference between a server's errors and those of
            a database that it has opened in this process.
    """
    from mlflow.exceptions import MlflowException
    from requests import exceptions

    if isinstance(error, exceptions.ConnectionError | exceptions.Timeout):
        return True
    if isinstance(error, exceptions.HTTPError):
        return error.response is not None and _passing(error.response.status_code)
    if not isinstance(error, MlflowException):
        return False
    if _LOST.search(str(error)):
        return True
    kind = re.split(r"[+:]", uri, maxsplit=1)[0]
    if kind in SERVERS:
        return _passing(error.get_http_status_code())  # type: ignore[no-untyped-call]
    away: bool = error.error_code == "TEMPORARILY_UNAVAILABLE"
    return away and (kind != "sqlite" or "locked" in str(error))


def reason(error: BaseException) -> str:
    """Why a store did not answer, in a few words and without secrets."""
    from reports.contract import redacted

    text = str(error)
    status, number = _STATUS.search(text), _ERRNO.search(text)
    if status:
        return f"it answers {status[1] or status[2]}"
    if "timed out" in text.lower():
        return "no answer in time"
    if "database is locked" in text:
        return "the database is locked"
    if number:
        return number[1].strip().lower()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return redacted(lines[0] if lines else type(error).__name__)[:_SHOWN]


def _passing(status: int) -> bool:
    return (status >= 500 or status in AGAIN) and status not in NEVER
