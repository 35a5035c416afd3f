"""A client of the store that begins a write only while the study is this process's.

A write that is under way when the process is suspended may still be finished after the study was
lost: the check stands before a call, not within it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# methods of MlflowClient that change nothing
READS = ("get_", "search_", "list_", "download_")


class _Fenced:
    """Passes everything on; what may change the store, after a check."""

    def __init__(self, client: "MlflowClient", check: Callable[[], None]) -> None:
        self._client = client
        self._check = check

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute) or name.startswith(READS):
            return attribute

        def checked(*args: Any, **keys: Any) -> Any:
            self._check()
            return attribute(*args, **keys)

        return checked


def fenced(client: "MlflowClient", check: Callable[[], None]) -> "MlflowClient":
    """The client with `check` before each write; what it raises keeps the write from happening."""
    return cast("MlflowClient", _Fenced(client, check))
