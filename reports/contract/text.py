"""Texts that may be somebody else's, as a terminal or a page shows them."""

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
