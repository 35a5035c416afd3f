"""Secrets of a store's address are masked in messages."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.store import find_address_fault
from harness.wording import mask_secrets
from reports.errors import ReportError
from tests.case_files import load_cases

CASES = load_cases(__file__, "addresses.yaml")
# Texts at both ends of a secret, by which a part of it is detected in a message.
BEGIN, END = "zqx", "xqz"
SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "s3", "nonsense")
PLACES = ("127.0.0.1:9", "host", "[::1]:5000", "", "host:port", "host/database", "host:1/a/b")
SHAPES = (
    "{s}://me:{x}@{p}", "{s}://{x}@{p}", "{s}:///me:{x}@{p}", "{s}://{p}?key={x}",
    "{s}://me:a@{p}/?a=b&key={x}&c=d", "{s}://me@{x}@{p}", "{s}:/me:{x}@{p}", "me:{x}@{p}",
)  # fmt: skip
SECRETS = st.text() | st.text("ab1@/:?#&= %'\"\n")


@pytest.mark.parametrize(("text", "masked"), CASES["masked"].items())
def test_secrets_are_masked(text: str, masked: str) -> None:
    """Secrets are users, passwords and values of options. A masked text is not changed again."""
    assert mask_secrets(text) == masked
    assert str(ReportError(text)) == masked
    assert mask_secrets(masked) == masked


@given(st.sampled_from(SHAPES), st.sampled_from(SCHEMES), st.sampled_from(PLACES), SECRETS)
@example("{s}://me:{x}@{p}", "http", "127.0.0.1:9", "/")
@example("{s}://me:{x}@{p}", "postgresql", "host/database", "@ss:")
@example("{s}://me:{x}@{p}", "nonsense", "host", " ")
@example("{s}://{p}?key={x}", "postgresql", "host/database", "@")
@example("{s}:///me:{x}@{p}", "postgresql", "host", "")
@example("{s}:/me:{x}@{p}", "http", "127.0.0.1:9", "://")
@example("me:{x}@{p}", "http", "127.0.0.1:9", "://")
def test_no_part_of_a_secret_is_shown(shape: str, scheme: str, place: str, secret: str) -> None:
    """The error of an invalid address does not contain it, and valid addresses are masked."""
    uri = shape.format(s=scheme, p=place, x=f"{BEGIN}{secret}{END}")
    fault = find_address_fault(uri)
    texts = [f"{uri}: failed: no route to '{uri}'", uri, f"API request to {uri}/api/2.0 failed"]
    for text in [fault] if fault else texts:
        masked = mask_secrets(text)
        assert BEGIN not in masked and END not in masked


@pytest.mark.parametrize("uri", CASES["valid"])
def test_addresses_that_mlflow_accepts_are_not_refused(uri: str) -> None:
    """Their special characters do not make them invalid."""
    assert find_address_fault(uri) is None
