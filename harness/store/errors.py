"""Convert errors of an MLflow store into one-line messages, and retry requests to the store."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import tenacity

from harness.errors import SingleLineError, UserError
from harness.store.address import SQLITE, describe_store_fault
from harness.wording import format_error_text, get_first_error_line, mask_secrets

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# Few retries, because a user is waiting for the start of a study or for a report.
MAX_TRIES = 5
MAX_RETRY_SECONDS = 10.0  # no retry begins later than this after the first try
FIRST_PAUSE = 0.25  # seconds after the first try; doubles after each try
MAX_PAUSE = 4.0

RETRIED_STATUSES = frozenset({408, 429})
PERMANENT_STATUSES = frozenset({501})  # not implemented
SERVER_SCHEMES = frozenset({"http", "https", "databricks"})
# prefixes of the read-only methods of MlflowClient
READ_METHODS = ("get_", "search_", "list_", "download_")

# MLflow's server answers 400 in some cases where it loses the connection to its database.
_CONNECTION_LOST = re.compile(
    r"\((?!sqlite3)[\w.]+\.(OperationalError|InterfaceError)\)|invalid transaction is rolled back"
)
# Matches the part of an HTTP client's long message that names the cause.
_CAUSE = re.compile(
    r"too many \d{3} error|error code \d{3}|(?<=\d\] )[^'\")]+|timed out|database is locked"
)
_DISK_FAULT = re.compile(
    r"disk is full|No space left|quota exceeded|readonly database|disk I/O error"
)
# Maximum characters of the cause in the message of NoAnswer, and of another StoreError.
_MAX_SHORT_CAUSE, _MAX_CAUSE = 150, 300


class StoreError(SingleLineError):
    """The MLflow store cannot be used.

    The message is one line with the store's address, without its secrets, and the reason.
    """


class NoAnswer(StoreError):
    """The store did not answer. The same call may succeed later."""


class StoreUnavailable(StoreError):
    """The store did not answer within the study's timeout. Running the study again resumes it."""


@contextmanager
def wrap_errors(uri: str) -> Iterator[None]:
    """Convert errors inside the context into StoreError, except UserError and its subclasses.

    Args:
        uri: Address of the store. Secrets are removed from the message.

    Raises:
        NoAnswer: The same requests may succeed later (see `is_transient`). It is a StoreError.
        StoreError: Any other error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # MLflow's client raises its own errors and those of SQLAlchemy, requests and alembic
        if is_transient(error, uri):
            line = f"{uri}: the MLflow store does not answer ({describe_cause(error, uri)})"
            raise NoAnswer(line) from error
        cause = mask_secrets(find_cause(error, uri), uri)[:_MAX_CAUSE]
        path = Path(uri.removeprefix(SQLITE))
        if uri.startswith(SQLITE) and not path.exists():
            # SQLite's own message is about a read-only database
            cause = f"{path} was deleted or moved while it was in use"
        raise StoreError(f"{uri}: the MLflow store failed: {cause}") from error


def find_cause(error: BaseException, uri: str) -> str:
    """Return the line that names the cause of an error. It may contain secrets of the address.

    If any error in the chain of causes mentions a disk fault, the line with the disk fault is
    returned. It may not be the first line: SQLAlchemy may put a remark about autoflush before it.
    Otherwise, the result of `describe_store_fault` is returned.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    lines = (line.strip() for cause in chain for line in format_error_text(cause).splitlines())
    return next(filter(_DISK_FAULT.search, lines), describe_store_fault(error, uri))


def is_transient(error: BaseException, uri: str) -> bool:
    """Return True if the same call may succeed later.

    This is the case if there was no answer, if the answer's status was 5xx (except 501), 408 or
    429, or if the database was locked or unavailable.

    Args:
        error: Error that MLflow's client raised, or a StoreError or UserError that wraps it.
        uri: Address of the store. An MlflowException is judged by its HTTP status if the store is a
            server, and by its error code if MLflow opens the database in this process.
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
        return error.response is not None and _is_transient_status(error.response.status_code)
    if not isinstance(error, MlflowException):
        return False
    if _CONNECTION_LOST.search(str(error)):
        return True
    scheme = re.split(r"[+:]", uri, maxsplit=1)[0]
    if scheme in SERVER_SCHEMES:
        return _is_transient_status(error.get_http_status_code())  # type: ignore[no-untyped-call]
    is_unavailable: bool = error.error_code == "TEMPORARILY_UNAVAILABLE"
    return is_unavailable and (scheme != "sqlite" or "locked" in str(error))


def _is_transient_status(status: int) -> bool:
    return (status >= 500 or status in RETRIED_STATUSES) and status not in PERMANENT_STATUSES


def describe_cause(error: BaseException, uri: str = "") -> str:
    """Return in a few words why a store did not answer, without secrets of its address."""
    match = _CAUSE.search(str(error))
    return mask_secrets(match[0] if match else get_first_error_line(error), uri)[:_MAX_SHORT_CAUSE]


def retry_requests(uri: str, request: Callable[[], T], max_tries: int = 0) -> T:
    """Make requests to a store, with a few retries if it does not answer.

    A running study waits much longer for its store (harness.store.study_store).

    Args:
        uri: Address of the store.
        request: Function that makes idempotent requests.
        max_tries: Maximum number of tries. 0 stands for MAX_TRIES.

    Returns:
        The result of `request`.

    Raises:
        Exception: The error of the last try. An error that a retry would not fix ends the tries.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: is_transient(error, uri)),
        stop=tenacity.stop_after_attempt(max_tries or MAX_TRIES)
        | tenacity.stop_after_delay(MAX_RETRY_SECONDS),
        wait=tenacity.wait_exponential(FIRST_PAUSE, MAX_PAUSE),
        reraise=True,
    )
    return retrying(request)


def wrap_client(
    client: "MlflowClient", wrap_call: Callable[[str, Callable[[], Any]], Any]
) -> "MlflowClient":
    """Return a client that passes each of its method calls to a function.

    Args:
        client: Client to wrap.
        wrap_call: Function that makes a call and returns its result. Its arguments are the method's
            name, and a function without arguments that calls the method.
    """

    class Wrapped:
        def __getattr__(self, name: str) -> Any:
            attribute = getattr(client, name)
            if not callable(attribute):
                return attribute
            return lambda *args, **keys: wrap_call(name, lambda: attribute(*args, **keys))

    return cast("MlflowClient", Wrapped())
