"""What is asked again of a store, and how often."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from harness.store.errors import StoreError
from harness.store.outbox import again as module
from harness.store.outbox.again import TRIES, again

URI = "http://server:5000"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


def test_what_is_refused_is_not_asked_again() -> None:
    """Nor is a store asked for ever."""
    asked = []

    def refused() -> None:
        asked.append("refused")
        raise MlflowException("no such thing", INVALID_PARAMETER_VALUE)

    def away() -> None:
        asked.append("away")
        raise StoreError("the store failed") from MlflowException("[Errno 104] Connection reset")

    with pytest.raises(MlflowException, match="no such thing"):
        again(URI, refused)
    with pytest.raises(StoreError, match="the store failed"):
        again(URI, away)
    assert asked == ["refused", *["away"] * TRIES]
