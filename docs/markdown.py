"""Lists in Markdown, with lines of limited length, for the generated pages."""

import re
import textwrap
from collections.abc import Iterable

WIDTH = 120


def format_list(lines: Iterable[str]) -> str:
    """Return a list with an item per text."""
    return "\n".join(wrap_text(f"- {line}", "  ") for line in lines) + "\n"


def wrap_text(text: str, indent: str = "") -> str:
    """Break a text into lines of at most WIDTH columns, but never within a span of code.

    Args:
        text: The text.
        indent: Indentation of all lines after the first.
    """
    joined = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text.replace("<", "&lt;"))
    filled = textwrap.fill(
        joined, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return filled.replace("\0", " ")
