"""Errors of MLflow's client: transient errors, messages, and retries."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

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


def make_error(case: dict[str, Any]) -> Exception:
    """Return the error of a case in errors.yaml."""
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
    """Errors without an answer, 5xx and 429 are transient, and other answers are not."""
    transient = is_transient(make_error(case), case.get("uri", "https://server"))
    assert transient is (case in ERRORS["transient"])


@pytest.mark.parametrize("case", ERRORS["reasons"], ids=lambda case: case["cause"])
def test_cause_is_short_and_has_no_secret(case: dict[str, str]) -> None:
    """The texts of MLflow's errors may have several lines with reprs of Python objects."""
    assert describe_cause(MlflowException(case["text"])) == case["cause"]


@pytest.mark.parametrize("place", ["second line", "cause"])
def test_full_disk_is_found_anywhere_in_error_chain(tmp_path: Path, place: str) -> None:
    """The first line may be SQLAlchemy's message about its autoflush."""
    (tmp_path / "mlflow.db").touch()
    autoflush = (
        "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush)"
    )
    full = "(sqlite3.OperationalError) database or disk is full"
    text = f"{autoflush}\n{full}\n[SQL: x]" if place == "second line" else autoflush
    cause = OSError(full) if place == "cause" else None
    with (
        pytest.raises(StoreError) as raised,
        wrap_errors(f"sqlite:///{tmp_path}/mlflow.db"),
    ):
        raise MlflowException(text) from cause
    assert str(raised.value).endswith(f"mlflow.db: the MLflow store failed: {full}")


def test_refused_request_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without an answer is retried a limited number of times."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    refused = Mock(side_effect=MlflowException("no such thing", INVALID_PARAMETER_VALUE))
    unanswered = Mock(side_effect=NoAnswer("the store failed"))
    with pytest.raises(MlflowException, match="no such thing"):
        retry_requests("http://server:5000", refused)
    with pytest.raises(StoreError, match="the store failed"):
        retry_requests("http://server:5000", unanswered)
    assert (refused.call_count, unanswered.call_count) == (1, MAX_TRIES)
