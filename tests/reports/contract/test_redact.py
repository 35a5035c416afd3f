"""No secret of a store's address is shown."""

import pytest

from reports.contract import ReportError
from reports.contract.redact import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa%2Fss@host:5432/mlflow", "postgresql://me:***@host:5432/mlflow"),
        ("mysql+pymysql://me:p@ss:word@host/db", "mysql+pymysql://me:***@host/db"),
        ("https://me:secret@mlflow.lab/x: 401", "https://***@mlflow.lab/x: 401"),
        ("http://token123@host:5000", "http://***@host:5000"),
        ("postgresql://me@host/db?sslpassword=s3&x=1", "postgresql://me@host/db?sslpassword=***&x=1"),
        ("https://host/?access_token=abc", "https://host/?access_token=***"),
        ("not 'postgresql://a:b@c/d' today", "not 'postgresql://a:***@c/d' today"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mail me@host: no address, 5:30", "mail me@host: no address, 5:30"),
    ],
)  # fmt: skip
def test_secrets_are_masked(text: str, shown: str) -> None:
    """Passwords, tokens in queries, and who asks a web server; users of databases stay."""
    assert redacted(text) == shown
    assert str(ReportError(text)) == shown
