"""Tables of benchmark results in Markdown."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any


def format_table(rows: Sequence[Any]) -> str:
    """Return a table of instances of a dataclass, with a column per field."""
    head = list(asdict(rows[0]))
    body = [[_cell(value) for value in asdict(row).values()] for row in rows]
    rule = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body)) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
