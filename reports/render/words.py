"""Text that a terminal shows as it is."""

from rich.text import Text

from reports.contract import is_text


def printable(text: str, style: str = "") -> Text:
    """A text to be shown as it is.

    In a plain str, rich would take [words] for its markup, and a terminal would obey an escape
    character; characters that are no text are shown as a replacement character.
    """
    return Text("".join(c if c == "\n" or is_text(c) else "�" for c in text), style)
