"""Format values, durations, counts and errors in messages."""

import difflib
from collections.abc import Iterable
from typing import Any
from unicodedata import bidirectional, category

from harness.wording.redaction import mask_secrets

_ESCAPED_CATEGORIES = frozenset({"Cc", "Cs"})  # control characters and surrogates
_FORBIDDEN_IN_XML = frozenset({0xFFFE, 0xFFFF})
# Characters that change the direction of the text around them can hide what it says.
_DIRECTIONAL = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def escape_controls(text: str) -> str:
    """Escape the characters of a text that control a terminal or the text's direction."""
    if text.isprintable():  # true for most texts, and 25 times as fast as the loop
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if category(character) in _ESCAPED_CATEGORIES
        or bidirectional(character) in _DIRECTIONAL
        or ord(character) in _FORBIDDEN_IN_XML
        else character
        for character in text
    )


def escape_controls_in_lines(text: str) -> str:
    """Escape each line of a text as `escape_controls` does."""
    return "\n".join(map(escape_controls, text.split("\n")))


def count(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. "1 seed" or "3 seeds".

    Args:
        number: The number.
        noun: Singular noun whose plural ends in s.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_error_text(error: BaseException) -> str:
    """Return an error's text, or "" if its __str__ raises an error, as that of a plugin may."""
    try:
        return str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return ""


def get_first_error_line(error: BaseException) -> str:
    """Return the first nonblank line of an error's text, or the name of its type.

    Secrets are not masked; see `describe_error`.
    """
    lines = (line.strip() for line in format_error_text(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def show(value: Any, width: int = 60) -> str:
    """Return a value as text for a message, truncated to `width` characters.

    None, booleans, lists and mappings are written as in YAML, all other values as Python's repr.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item, width - 1) for item in value[:width]) + "]"
    elif isinstance(value, dict):
        pairs = list(value.items())[:width]
        text = "{" + ", ".join(f"{key}: {show(item, width - 1)}" for key, item in pairs) + "}"
    else:
        text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def find_closest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most similar to a word, ignoring case. None if none is similar."""
    choices_by_lower = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(word.lower(), list(choices_by_lower), n=1, cutoff=0.6)
    return choices_by_lower[matches[0]] if matches else None


def describe_error(error: BaseException) -> str:
    """Return the first line of an error's text for a message: secrets masked, 300 characters."""
    return mask_secrets(get_first_error_line(error))[:300]


def format_duration(seconds: float) -> str:
    """Format a duration: "<1 s", "12 s", "3.4 min" or "5.6 h"."""
    if seconds < 1:
        return "<1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
