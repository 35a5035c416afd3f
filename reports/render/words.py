"""Text that a terminal shows as it is."""

from unicodedata import category

from rich.text import Text

# Unicode categories of what is not text: control characters and surrogates
_NO_TEXT = frozenset({"Cc", "Cs"})


def printable(text: str, style: str = "") -> Text:
    """A text to be shown as it is.

    In a plain str, rich would take [words] for its markup, and a terminal would obey an escape
    character; characters that are no text are shown as a replacement character.
    """
    return Text(
        "".join(c if c == "\n" or category(c) not in _NO_TEXT else "�" for c in text), style
    )
