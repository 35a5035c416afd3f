"""Asks a store a few times, where it does not answer the first time.

A study that runs waits for its store far longer (delivery.py). This is for its beginning, when
somebody waits to see whether the store is there at all.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from harness.store.errors import StoreError
from harness.store.outbox.retryable import transient
from reports.contract import ReportError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TRIES = 5
# Seconds between two tries: the pause after the first one, and the longest that it grows to.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0

T = TypeVar("T")


def again(uri: str, ask: Callable[[], T]) -> T:
    """What a store answers; for requests that leave the store, made twice, as made once.

    Args:
        uri: of the store.
        ask: makes the requests.

    Raises:
        Exception: whatever `ask` raises the last time, or where asking again would not help.
    """

    def is_away(error: BaseException) -> bool:
        told = isinstance(error, StoreError | ReportError)  # whose cause is the store's own error
        cause = error.__cause__ if told else None
        return transient(cause or error, uri)

    pause = wait_exponential(FIRST_PAUSE, LONGEST_PAUSE)
    retrying = Retrying(
        retry=retry_if_exception(is_away), stop=stop_after_attempt(TRIES), wait=pause, reraise=True
    )
    return retrying(ask)


class _Patient:
    """Passes every call on, again where the store does not answer."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self._client = client
        self._uri = uri

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda *args, **keys: again(self._uri, lambda: call(*args, **keys))


def patient(client: "MlflowClient", uri: str) -> "MlflowClient":
    """The client, each of whose calls is made a few times where the store does not answer.

    Args:
        client: of the store.
        uri: of the store.
    """
    return cast("MlflowClient", _Patient(client, uri))
