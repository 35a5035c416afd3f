"""Which errors of MLflow's client pass."""

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from harness.store.outbox.retryable import reason, transient

WEB, SQLITE, POSTGRES = "https://server", "sqlite:////a/mlflow.db", "postgresql+psycopg2://host/db"


def answer(status: int) -> requests.HTTPError:
    """An HTTPError with a status."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Error", response=response)


@pytest.mark.parametrize(
    ("uri", "error", "passes"),
    [
        (WEB, requests.ConnectionError("refused"), True),
        (WEB, requests.ReadTimeout("slow"), True),
        (WEB, answer(502), True),
        (WEB, answer(429), True),
        (WEB, answer(403), False),
        (WEB, answer(501), False),
        (WEB, MlflowException("API request to x failed with exception"), True),
        (WEB, RestException({"error_code": "TEMPORARILY_UNAVAILABLE"}), True),
        (WEB, RestException({"error_code": "REQUEST_LIMIT_EXCEEDED"}), True),
        (WEB, RestException({"error_code": "RESOURCE_DOES_NOT_EXIST"}), False),
        (WEB, RestException({"error_code": "INVALID_PARAMETER_VALUE"}), False),
        (WEB, RestException({"error_code": "PERMISSION_DENIED"}), False),
        # the server's own database is away
        (WEB, MlflowException("(psycopg2.InterfaceError) closed", BAD_REQUEST), True),
        (WEB, MlflowException("(psycopg2.errors.DataError) what", BAD_REQUEST), False),
        (WEB, OSError("disk full"), False),
        (SQLITE, MlflowException("(sqlite3.OperationalError) disk I/O error"), False),
        (SQLITE, MlflowException("database is locked", TEMPORARILY_UNAVAILABLE), True),
        (SQLITE, MlflowException("disk is full", TEMPORARILY_UNAVAILABLE), False),
        (POSTGRES, MlflowException("(psycopg2.OperationalError)", TEMPORARILY_UNAVAILABLE), True),
        (POSTGRES, MlflowException("a bug"), False),
        ("file:///a", MlflowException("a bug"), False),
    ],
)
def test_what_passes(uri: str, error: Exception, passes: bool) -> None:
    """A server that is away, busy or ill does; one that refuses does not."""
    assert transient(error, uri) is passes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Caused by ResponseError('too many 503 error responses')", "it answers 503"),
        ("failed with error code 502 != 200. Response body: '<html>'", "it answers 502"),
        ("NewConnectionError(': [Errno 111] Connection refused'))", "connection refused"),
        ("HTTPConnectionPool: Read timed out. (read timeout=15)", "no answer in time"),
        ("x\ny", "x"),
        ("to http://me:geheim@host/api", "to http://***@host/api"),
    ],
)
def test_the_reason_is_short_and_has_no_secret(text: str, told: str) -> None:
    """MLflow's own texts are several lines of Python."""
    assert reason(MlflowException(text)) == told
