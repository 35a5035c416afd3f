"""How values, durations and errors are spelled in the lines that a person reads."""

import difflib
from collections.abc import Iterable
from typing import Any

from reports.contract import first_line, redacted


def show(value: Any, width: int = 60) -> str:
    """A value the way YAML spells it, shortened to `width` characters."""
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


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` was probably meant to be, or None."""
    lowered = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else None


def one_line(error: BaseException) -> str:
    """Return the first line of an error without secrets, cut where it is long."""
    return redacted(first_line(error))[:300]


def duration(seconds: float) -> str:
    """For people: "<1 s", "12 s", "3.4 min", "5.6 h"."""
    if seconds < 1:
        return "<1 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
