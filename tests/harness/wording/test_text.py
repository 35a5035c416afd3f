"""Texts from a store or a user cannot contain control sequences of terminals or pages."""

import unicodedata

import pytest

from harness.errors import SingleLineError, find_ray_address_fault
from harness.store import StoreError
from harness.wording import escape_controls
from reports.errors import ReportError


def test_only_control_characters_are_escaped() -> None:
    """This includes surrogates, direction marks, and two characters that XML forbids."""
    escaped = {chr(code) for code in range(0x110000) if escape_controls(chr(code)) != chr(code)}
    controls = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"}
    surrogates = set(map(chr, range(0xD800, 0xE000)))
    direction_marks = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert escaped == controls | surrogates | direction_marks | {"\ufffe", "\uffff"}


def test_other_characters_of_an_escaped_text_are_kept() -> None:
    """Non-ASCII characters are not escaped."""
    assert escape_controls("H 61.8 ± 0.7\x1b[0m") == "H 61.8 ± 0.7\\x1b[0m"


@pytest.mark.parametrize("kind", [StoreError, ReportError])
def test_a_one_line_error_has_one_line(kind: type[SingleLineError]) -> None:
    """Line breaks in names and causes are escaped."""
    assert str(kind("study 'a\nb\x1b' failed")) == "study 'a\\nb\\x1b' failed"


@pytest.mark.parametrize("address", ["garbage", "ray://head:10001", "http://head:6379", "::1:6379"])
def test_a_wrong_ray_address_is_refused_wherever_it_is_set(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """It may be an argument, or the variable RAY_ADDRESS, which replaces `auto` unless empty."""
    text = f"must be local, auto or HOST:PORT (Ray Client is not supported), got '{address}'"
    assert find_ray_address_fault(address) == f"address {text}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert find_ray_address_fault("auto") == f"RAY_ADDRESS {text}"
    for valid in ("head:6379", "[fd00::1]:6379"):
        assert find_ray_address_fault(valid) is None
    for valid in ("", "head:6379"):
        monkeypatch.setenv("RAY_ADDRESS", valid)
        assert find_ray_address_fault("auto") is None
