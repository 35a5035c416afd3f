"""The beginning of a study on a store that loses requests."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from harness.store import session
from harness.store.errors import StoreError
from harness.store.lock.lease import Timing
from harness.store.lock.lease_tag import holder_of, read_tag
from harness.store.open import Store
from harness.store.outbox import again as module
from harness.store.outbox.again import TRIES, again
from harness.store.session import Hold
from reports.contract import Tag

URI = "http://server:5000"


class Losing:
    """MLflow's client behind a network: of every two times that a call is made, the first is lost.

    after: whether the request arrives, and its answer is what is lost.
    """

    def __init__(self, client: Any, *, after: bool) -> None:
        self._client = client
        self._after = after
        self._times: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def lossy(*args: Any, **keys: Any) -> Any:
            self._times[name] += 1
            lost = self._times[name] % 2 == 1
            if lost and not self._after:
                raise MlflowException("[Errno 104] Connection reset by peer")
            answer = call(*args, **keys)
            if lost:
                raise MlflowException("too many 500 error responses")
            return answer

        return lossy


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


@pytest.mark.parametrize("after", [False, True])
def test_a_study_begins_on_a_store_that_loses_requests(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Its experiment is made once, it holds the lease, and it is named once among the drivers."""
    losing: Any = Losing(store.client, after=after)
    monkeypatch.setattr(
        session, "open_store", lambda *_: replace(store, uri=URI, client=losing, artifacts=None)
    )

    def fail(error: Exception) -> None:
        raise error

    hold = Hold(URI, tmp_path, Timing(claim_pause=(0.0, 0.0)), fail, print)
    with hold.study("small") as held:
        assert [held.experiment_id] == [
            found.experiment_id
            for found in store.client.search_experiments()
            if found.name == "small"
        ]
        holder = holder_of(read_tag(store.client, held.experiment_id))
        assert holder is not None and holder.token == held.drivers.own
        drivers = read_tag(store.client, held.experiment_id, Tag.LAST_DRIVER)
        assert drivers == held.drivers.own
        held.become_last_driver()


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
