"""Comparison of output with the patterns in YAML cases."""

import re
from collections.abc import Sequence


def match_lines(lines: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return True if the lines match the patterns one by one, where "..." matches any text."""
    expressions = [".*".join(map(re.escape, pattern.split("..."))) for pattern in patterns]
    return len(lines) == len(patterns) and all(map(re.fullmatch, expressions, lines))
