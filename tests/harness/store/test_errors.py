"""Errors of MLflow's client: which are transient, what the message says, and when to retry."""

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
    wrap_errors,
)
from tests.case_files import load_cases

ERRORS = load_cases(__file__, "errors.yaml")


def raised(case: dict[str, Any]) -> Exception:
    """Return the error of a case."""
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


@pytest.mark.parametrize("case", ERRORS["transient"] + ERRORS["permanent"], ids=str)
def test_transient_errors_are_recognized(case: dict[str, Any]) -> None:
    """No answer, 5xx and 429 are transient; other refusals are not."""
    transient = is_transient(raised(case), case.get("uri", "https://server"))
    assert transient is (case in ERRORS["transient"])


@pytest.mark.parametrize("case", ERRORS["reasons"], ids=lambda case: case["cause"])
def test_cause_is_short_and_has_no_secret(case: dict[str, str]) -> None:
    """MLflow's own texts are several lines of Python."""
    assert describe_cause(MlflowException(case["text"])) == case["cause"]


@pytest.mark.parametrize("place", ["second line", "cause"])
def test_full_disk_is_named_anywhere_in_error_chain(tmp_path: Path, place: str) -> None:
    """SQLAlchemy may put a message about its autoflush first."""
    (tmp_path / "mlflow.db").touch()
    words = "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush)"
    full = "(sqlite3.OperationalError) database or disk is full"
    text = f"{words}\n{full}\n[SQL: x]" if place == "second line" else words
    cause = OSError(full) if place == "cause" else None
    with (
        pytest.raises(StoreError) as raised,
        wrap_errors(f"sqlite:///{tmp_path}/mlflow.db"),
    ):
        raise MlflowException(text) from cause
    assert str(raised.value).endswith(f"mlflow.db: the MLflow store failed: {full}")


def test_refused_request_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused request is made once; other requests are retried a limited number of times."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    requests_made = []

    def refused() -> None:
        requests_made.append("refused")
        raise MlflowException("no such thing", INVALID_PARAMETER_VALUE)

    def away() -> None:
        requests_made.append("away")
        raise NoAnswer("the store failed")

    with pytest.raises(MlflowException, match="no such thing"):
        retry_requests("http://server:5000", refused)
    with pytest.raises(StoreError, match="the store failed"):
        retry_requests("http://server:5000", away)
    assert requests_made == ["refused", *["away"] * MAX_TRIES]
