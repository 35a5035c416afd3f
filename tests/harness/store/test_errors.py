"""Which errors of MLflow's client pass, and how often is asked again behind one that does."""

from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, ErrorCode

from harness.store import errors as module
from harness.store.errors import (
    MAX_TRIES,
    NoAnswer,
    StoreError,
    describe_cause,
    is_transient,
    retry_requests,
    store_errors,
)
from tests.told import told

ERRORS = told(__file__, "errors.yaml")


def raised(case: dict[str, Any]) -> Exception:
    """The error of a case."""
    if "mlflow" in case:
        code = ErrorCode.Value(case["code"]) if "code" in case else INTERNAL_ERROR
        return MlflowException(case["mlflow"], code)
    if "rest" in case:
        return RestException({"error_code": case["rest"]})
    if "status" in case:
        response = requests.Response()
        response.status_code = case["status"]
        return requests.HTTPError(f"{case['status']} Error", response=response)
    kind: type[Exception] = getattr(requests, case["error"], OSError)
    return kind(case["text"])


@pytest.mark.parametrize("case", ERRORS["passes"] + ERRORS["stays"], ids=str)
def test_what_passes(case: dict[str, Any]) -> None:
    """A server that is away, busy or ill does; one that refuses does not."""
    found = is_transient(raised(case), case.get("uri", "https://server"))
    assert found is (case in ERRORS["passes"])


@pytest.mark.parametrize("case", ERRORS["reasons"], ids=lambda case: case["told"])
def test_the_reason_is_short_and_has_no_secret(case: dict[str, str]) -> None:
    """MLflow's own texts are several lines of Python."""
    assert describe_cause(MlflowException(case["text"])) == case["told"]


@pytest.mark.parametrize("place", ["second line", "cause"])
def test_a_full_disk_is_named_wherever_the_error_has_it(tmp_path: Path, place: str) -> None:
    """SQLAlchemy may begin with words about its autoflush."""
    (tmp_path / "mlflow.db").touch()
    words = "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush)"
    full = "(sqlite3.OperationalError) database or disk is full"
    text = f"{words}\n{full}\n[SQL: x]" if place == "second line" else words
    cause = OSError(full) if place == "cause" else None
    with pytest.raises(StoreError) as raised, store_errors(f"sqlite:///{tmp_path}/mlflow.db"):
        raise MlflowException(text) from cause
    assert str(raised.value).endswith(f"mlflow.db: the MLflow store failed: {full}")


def test_what_is_refused_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a store asked for ever."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    asked = []

    def refused() -> None:
        asked.append("refused")
        raise MlflowException("no such thing", INVALID_PARAMETER_VALUE)

    def away() -> None:
        asked.append("away")
        raise NoAnswer("the store failed")

    with pytest.raises(MlflowException, match="no such thing"):
        retry_requests("http://server:5000", refused)
    with pytest.raises(StoreError, match="the store failed"):
        retry_requests("http://server:5000", away)
    assert asked == ["refused", *["away"] * MAX_TRIES]
