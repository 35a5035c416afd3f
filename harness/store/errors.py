"""What goes wrong with an MLflow store: as one line, and whether to ask it once more."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import tenacity

from harness.errors import UserError
from harness.store.address import SQLITE, store_fault
from harness.wording import error_text, first_line, printable, redacted

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# At a study's beginning, when somebody waits to see whether the store is there:
TRIES = 5
LONGEST_TRY = 10.0  # seconds after which the store is not asked again
FIRST_PAUSE = 0.25  # seconds after the first try; they double after each
LONGEST_PAUSE = 4.0

AGAIN = frozenset({408, 429})
NEVER = frozenset({501})  # not implemented
SERVERS = frozenset({"http", "https", "databricks"})
# methods of MlflowClient that change nothing
READS = ("get_", "search_", "list_", "download_")

# MLflow's server answers 400 for some ways in which its database's connection is lost
_LOST = re.compile(
    r"\((?!sqlite3)[\w.]+\.(OperationalError|InterfaceError)\)|invalid transaction is rolled back"
)
# What says why, in the several lines that an error of a server's client has.
_WHY = re.compile(
    r"too many \d{3} error|error code \d{3}|(?<=\d\] )[^'\")]+|timed out|database is locked"
)
_DISK = re.compile(r"disk is full|No space left|quota exceeded|readonly database|disk I/O error")
_SHOWN, _LONGEST = 150, 300


class StoreError(UserError):
    """The MLflow store cannot be used; one line that names it, without secrets, and says why."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class NoAnswer(StoreError):
    """A call got no answer; the same call may get through later."""


class StoreAway(StoreError):
    """The store has not answered for as long as the study waits; the same command resumes it."""


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and its database raise into one StoreError line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # MLflow raises its own, sqlalchemy's, requests' and alembic's
        if transient(error, uri):
            line = f"{uri}: the MLflow store does not answer ({reason(error, uri)})"
            raise NoAnswer(line) from error
        why = redacted(cause_line(error, uri), uri)[:_LONGEST]
        path = Path(uri.removeprefix(SQLITE))
        if uri.startswith(SQLITE) and not path.exists():
            # sqlite says that it may not write, as nobody would find what it wrote
            why = f"{path} was deleted or moved away while it was in use"
        raise StoreError(f"{uri}: the MLflow store failed: {why}") from error


def cause_line(error: BaseException, uri: str) -> str:
    """Return the line that names a disk's fault, wherever the error has it, or its first line.

    SQLAlchemy may put words about its autoflush before the database's own.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    lines = (line.strip() for cause in chain for line in error_text(cause).splitlines())
    return next(filter(_DISK.search, lines), store_fault(error, uri))


def transient(error: BaseException, uri: str) -> bool:
    """Whether the same call may get through later: no answer, 5xx, 429, a database that is away.

    Args:
        error: what MLflow's client raised, or what tells of that.
        uri: of the store. MLflow itself makes no difference between a server's errors and those of
            a database that it has opened in this process.
    """
    if isinstance(error, StoreError):
        return isinstance(error, NoAnswer)
    if isinstance(error, UserError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
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


def _passing(status: int) -> bool:
    return (status >= 500 or status in AGAIN) and status not in NEVER


def reason(error: BaseException, uri: str = "") -> str:
    """Return why a store did not answer, in a few words and without secrets of its address."""
    why = _WHY.search(str(error))
    return redacted(why[0] if why else first_line(error), uri)[:_SHOWN]


def again(uri: str, ask: Callable[[], T], tries: int = 0) -> T:
    """What a store answers, asked a few times where it does not answer the first time.

    A study that runs waits for its store far longer (harness.store.study_store).

    Args:
        uri: of the store.
        ask: makes requests that leave the store, made twice, as made once.
        tries: at most; 0: TRIES.

    Raises:
        Exception: whatever `ask` raises the last time, or where asking again would not help.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: transient(error, uri)),
        stop=tenacity.stop_after_attempt(tries or TRIES) | tenacity.stop_after_delay(LONGEST_TRY),
        wait=tenacity.wait_exponential(FIRST_PAUSE, LONGEST_PAUSE),
        reraise=True,
    )
    return retrying(ask)


def wrapped(
    client: "MlflowClient", around: Callable[[str, Callable[[], Any]], Any]
) -> "MlflowClient":
    """The client, each of whose calls goes through `around`, which takes its name and the call."""

    class Wrapped:
        def __getattr__(self, name: str) -> Any:
            found = getattr(client, name)
            if not callable(found):
                return found
            return lambda *args, **keys: around(name, lambda: found(*args, **keys))

    return cast("MlflowClient", Wrapped())
