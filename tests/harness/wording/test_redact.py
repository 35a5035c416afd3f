"""No secret of a store's address is shown."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.store import find_address_fault
from harness.wording import mask_secrets
from reports.errors import ReportError
from tests.case_files import load_cases

CASES = load_cases(__file__, "addresses.yaml")
# Marks that would give a secret away which is shown in part.
BEGIN, END = "zqx", "xqz"
SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "s3", "nonsense")
PLACES = ("127.0.0.1:9", "host", "[::1]:5000", "", "host:port", "host/database", "host:1/a/b")
SHAPES = (
    "{s}://me:{x}@{p}", "{s}://{x}@{p}", "{s}:///me:{x}@{p}", "{s}://{p}?key={x}",
    "{s}://me:a@{p}/?a=b&key={x}&c=d", "{s}://me@{x}@{p}", "{s}:/me:{x}@{p}", "me:{x}@{p}",
)  # fmt: skip
SECRETS = st.text() | st.text("ab1@/:?#&= %'\"\n")


@pytest.mark.parametrize(("text", "shown"), CASES["masked"].items())
def test_secrets_are_masked(text: str, shown: str) -> None:
    """Users, passwords and values of options are masked, and paths stay."""
    assert mask_secrets(text) == shown
    assert str(ReportError(text)) == shown
    assert mask_secrets(shown) == shown


@given(st.sampled_from(SHAPES), st.sampled_from(SCHEMES), st.sampled_from(PLACES), SECRETS)
@example("{s}://me:{x}@{p}", "http", "127.0.0.1:9", "/")
@example("{s}://me:{x}@{p}", "postgresql", "host/database", "@ss:")
@example("{s}://me:{x}@{p}", "nonsense", "host", " ")
@example("{s}://{p}?key={x}", "postgresql", "host/database", "@")
@example("{s}:///me:{x}@{p}", "postgresql", "host", "")
@example("{s}:/me:{x}@{p}", "http", "127.0.0.1:9", "://")
@example("me:{x}@{p}", "http", "127.0.0.1:9", "://")
def test_no_part_of_a_secret_is_shown(shape: str, scheme: str, place: str, secret: str) -> None:
    """An address that cannot be parsed is refused and not shown. Others have no secret."""
    uri = shape.format(s=scheme, p=place, x=f"{BEGIN}{secret}{END}")
    fault = find_address_fault(uri)
    texts = [f"{uri}: failed: no route to '{uri}'", uri, f"API request to {uri}/api/2.0 failed"]
    for text in [fault] if fault else texts:
        shown = mask_secrets(text)
        assert BEGIN not in shown and END not in shown


@pytest.mark.parametrize("uri", CASES["readable"])
def test_addresses_that_mlflow_accepts_are_accepted(uri: str) -> None:
    """They are not refused as unparsable."""
    assert find_address_fault(uri) is None
