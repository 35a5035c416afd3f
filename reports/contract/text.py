"""Texts that may be somebody else's, as a terminal or a page shows them."""

import io
import sys
from unicodedata import category

_NO_TEXT = frozenset({"Cc", "Cs"})


def printable(text: str) -> str:
    """A text in which control characters, which a terminal would obey, are spelled out."""
    return "".join(
        character.encode("unicode_escape").decode()
        if category(character) in _NO_TEXT
        else character
        for character in text
    )


def steady_output() -> None:
    """Let standard output show ? for what the terminal's encoding has not, e.g. ± in locale C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
