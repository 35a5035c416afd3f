"""Which errors of MLflow's client pass."""

from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, ErrorCode
from ruamel.yaml import YAML

from harness.store.outbox.retryable import reason, transient

ERRORS = YAML(typ="safe").load((Path(__file__).parent / "errors.yaml").read_text("utf-8"))


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
    found = transient(raised(case), case.get("uri", "https://server"))
    assert found is (case in ERRORS["passes"])


@pytest.mark.parametrize("case", ERRORS["reasons"], ids=lambda case: case["told"])
def test_the_reason_is_short_and_has_no_secret(case: dict[str, str]) -> None:
    """MLflow's own texts are several lines of Python."""
    assert reason(MlflowException(case["text"])) == case["told"]
