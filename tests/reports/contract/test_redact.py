"""No secret of a store's address is shown."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports.contract import ReportError, address_fault
from reports.contract.redact import redacted, store_key

# Marks that would give a secret away which is shown in part.
BEGIN, END = "zqx", "xqz"
SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "s3", "nonsense")
PLACES = ("127.0.0.1:9", "host", "[::1]:5000", "", "host:port", "host/database", "host:1/a/b")
SHAPES = (
    "{s}://me:{x}@{p}", "{s}://{x}@{p}", "{s}:///me:{x}@{p}", "{s}://{p}?key={x}",
    "{s}://me:a@{p}/?a=b&key={x}&c=d", "{s}://me@{x}@{p}", "{s}:/me:{x}@{p}", "me:{x}@{p}",
)  # fmt: skip
SECRETS = st.text() | st.text("ab1@/:?#&= %'\"\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa%2Fss@host:5432/mlflow", "postgresql://***@host:5432/mlflow"),
        ("mysql+pymysql://me:p@ss:word@host/db", "mysql+pymysql://***@host/db"),
        ("https://me:secret@mlflow.lab/x: 401", "https://***@mlflow.lab/x: 401"),
        ("http://token123@host:5000", "http://***@host:5000"),
        ("http://me:pass/word@host:5000", "http://***@host:5000"),
        ("http:///me:secret@", "http://***@"),
        ("postgresql://me@host/db?sslpassword=s3&x=1", "postgresql://***@host/db?sslpassword=***"),
        ("https://host/?access_token=abc", "https://host/?access_token=***"),
        ("https://host/?access_token=abc: 401", "https://host/?access_token=***: 401"),
        ("no answer: /?api_key=abc&name=1 (refused)", "no answer: /?api_key=*** (refused)"),
        ("not 'postgresql://a:b@c/d' today", "not 'postgresql://***@c/d' today"),
        ("sqlite:////home/me@lab/mlflow.db", "sqlite:////home/me@lab/mlflow.db"),
        ("file:///home/me@lab/mlartifacts", "file:///home/me@lab/mlartifacts"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mail me@host: no address, 5:30", "mail me@host: no address, 5:30"),
    ],
)  # fmt: skip
def test_secrets_are_masked(text: str, shown: str) -> None:
    """Users, passwords, and what options say; paths stay."""
    assert redacted(text) == shown
    assert str(ReportError(text)) == shown
    assert redacted(shown) == shown


@given(st.sampled_from(SHAPES), st.sampled_from(SCHEMES), st.sampled_from(PLACES), SECRETS)
@example("{s}://me:{x}@{p}", "http", "127.0.0.1:9", "/")
@example("{s}://me:{x}@{p}", "postgresql", "host/database", "@ss:")
@example("{s}://me:{x}@{p}", "nonsense", "host", " ")
@example("{s}://{p}?key={x}", "postgresql", "host/database", "@")
@example("{s}:///me:{x}@{p}", "postgresql", "host", "")
def test_no_part_of_a_secret_is_shown(shape: str, scheme: str, place: str, secret: str) -> None:
    """An address that nobody can read is refused and not shown; of any other the secret is not."""
    uri = shape.format(s=scheme, p=place, x=f"{BEGIN}{secret}{END}")
    fault = address_fault(uri)
    texts = [f"{uri}: failed: no route to '{uri}'", uri, f"API request to {uri}/api/2.0 failed"]
    for text in [fault] if fault else texts:
        shown = redacted(text)
        assert BEGIN not in shown and END not in shown


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:pa%2Fss@127.0.0.1:5000",
        "https://token@mlflow.lab/prefix",
        "http://[::1]:5000",
        "postgresql://me:pa/ss:word@host:5432/mlflow?sslmode=require",
        "postgresql:///mlflow?host=/run/postgresql",
        "mssql+pyodbc://me:x@dsn?driver=ODBC+Driver+17",
        "databricks",
        "databricks://profile",
        "file:///home/me@lab/a:b",
        "/mnt/a:b/me@lab/mlflow.db",
        "mlruns",
        "sqlite:////home/me@lab/mlflow.db",
    ],
)
def test_addresses_that_can_be_read(uri: str) -> None:
    """What MLflow takes is not refused."""
    assert address_fault(uri) is None


def test_a_store_has_one_key_whatever_its_password() -> None:
    """So that what waits for it is found again; other users, options and names are other stores."""
    server = "postgresql://me:{}@host:5432/mlflow?options=-csearch_path={}&sslpassword={}"
    assert store_key(server.format("old", "a", "x")) == store_key(server.format("new", "a", "y"))
    assert store_key("https://token@host") == store_key("https://other:word@host")
    others = [
        server.format("old", "a", "x"),
        server.format("old", "b", "x"),
        server.format("old", "a", "x").replace("me:", "you:"),
        "https://token@host",
        "http://host",
        "sqlite:////tmp/a.db",
        "sqlite:////tmp/b.db",
    ]
    assert len(set(map(store_key, others))) == len(others)
    assert not any("old" in store_key(one) for one in others)
