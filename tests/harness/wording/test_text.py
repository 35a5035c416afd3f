"""Texts from a store or a user cannot control a terminal or a page."""

import unicodedata

import pytest

from harness.errors import SingleLineError, find_ray_address_fault
from harness.store import StoreError
from harness.wording import escape_controls
from reports.errors import ReportError


def test_only_control_characters_are_escaped() -> None:
    """They are controls, surrogates, direction marks and the two that XML forbids."""
    escaped = {chr(code) for code in range(0x110000) if escape_controls(chr(code)) != chr(code)}
    controls = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"}
    surrogates = set(map(chr, range(0xD800, 0xE000)))
    turning = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert escaped == controls | surrogates | turning | {"\ufffe", "\uffff"}


def test_the_rest_of_an_escaped_text_stays() -> None:
    """A text with one such character keeps the others."""
    assert escape_controls("H 61.8 ± 0.7\x1b[0m") == "H 61.8 ± 0.7\\x1b[0m"


@pytest.mark.parametrize("kind", [StoreError, ReportError])
def test_a_one_line_error_has_one_line(kind: type[SingleLineError]) -> None:
    """This is true for any names and causes that it quotes."""
    assert str(kind("study 'a\nb\x1b' failed")) == "study 'a\\nb\\x1b' failed"


@pytest.mark.parametrize("address", ["garbage", "ray://head:10001", "http://head:6379"])
def test_a_wrong_ray_address_is_refused_wherever_it_is_set(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """As an argument, and in RAY_ADDRESS, which is used for auto. An empty one is not set."""
    text = f"must be local, auto or HOST:PORT (Ray Client is not supported), got '{address}'"
    assert find_ray_address_fault(address) == f"address {text}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert find_ray_address_fault("auto") == f"RAY_ADDRESS {text}"
    assert find_ray_address_fault("head:6379") is None
    for valid in ("", "head:6379"):
        monkeypatch.setenv("RAY_ADDRESS", valid)
        assert find_ray_address_fault("auto") is None
