"""Lines as cases in YAML write them."""

import re
from collections.abc import Sequence


def matching(lines: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether there is one line for each pattern, in order, where ... stands for anything."""
    expressions = [".*".join(map(re.escape, pattern.split("..."))) for pattern in patterns]
    return len(lines) == len(patterns) and all(map(re.fullmatch, expressions, lines))
