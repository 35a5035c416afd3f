"""Format numbers as in papers: one decimal, two significant digits of p, a real minus sign."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reports.cells import Cell, Counts, PValue, Quantity, Ranged, Spread, Text, Value
from reports.stats import Estimate

DASH = "–"
# If the longer side of an interval exceeds the shorter by more than this factor, both ends are
# shown instead of one half-width.
MAX_ASYMMETRY = 1.5


@dataclass(frozen=True)
class Dialect:
    """Separators of a mean, its half-width and a suffix in an output format."""

    plus_minus: str = " ± "
    gap: str = " "  # before a suffix


PLAIN = Dialect()
STACKED = Dialect(plus_minus="\n±", gap="\n")  # intervals below their means


def break_heading(heading: str) -> list[str]:
    """Split a heading into short lines: between words, after underscores, and before a last number.

    For example, "oxford_pets" becomes "oxford_" and "pets", and "food101" becomes "food" and "101".
    A slash between words is replaced by a line break and an indent.
    """
    text = heading.replace(" / ", " /\N{NO-BREAK SPACE}").replace(" ", "\n")
    return re.sub(r"_|(?<=[a-z])(?=\d+$)", r"\g<0>\n", text).split("\n")


MAX_NAMED = 6  # maximum number of names in a sentence


def join_names(names: Sequence[str], separator: str = ", ") -> str:
    """Join names for a sentence: "a, b and c". Names after the first MAX_NAMED are only counted.

    Args:
        names: The names.
        separator: Separator of the names. With the default, "and" replaces the last comma.
    """
    texts, n_more = list(names[:MAX_NAMED]), len(names) - MAX_NAMED
    if n_more > 0:
        texts[-1] += f" and {n_more} more"
    elif separator == ", " and len(texts) > 1:
        texts[-2:] = [" and ".join(texts[-2:])]
    return separator.join(texts)


def format_number(value: float, decimals: int = 1, *, signed: bool = False) -> str:
    """Format a number with fixed decimals and a real minus sign.

    A number that rounds to 0 has no sign.

    Args:
        value: The number.
        decimals: Number of decimals.
        signed: Whether a positive number gets a plus.
    """
    text = f"{value:z.{decimals}f}"
    plus = "+" if signed and float(text) > 0 else ""
    return plus + text.replace("-", "−")


def format_points(points: float) -> str:
    """Return percentage points as text: "1 point", "0.5 points"."""
    return f"{points:g} {'point' if points == 1 else 'points'}"


def format_p(p: float) -> str:
    """Format a p-value with two significant digits; "<0.001" if smaller."""
    return "<0.001" if p < 0.001 else f"{p:#.2g}"


def _format_value(value: Value, dialect: Dialect) -> str:
    """Format a mean with its interval.

    The interval is shown as ± half-width, or as both ends if it is asymmetric (see MAX_ASYMMETRY).
    A missing interval is shown as a dash.
    """
    estimate, decimals = value.estimate, value.decimals
    mean = format_number(estimate.mean, decimals, signed=value.signed)
    if estimate.low is None or estimate.high is None:
        return f"{mean}{dialect.plus_minus}{DASH}"
    lower_half, upper_half = estimate.mean - estimate.low, estimate.high - estimate.mean
    shorter, longer = sorted((lower_half, upper_half))
    # one unit in the last decimal is not visible as asymmetry
    if longer <= MAX_ASYMMETRY * shorter + 10**-decimals:
        return f"{mean}{dialect.plus_minus}{format_number((upper_half + lower_half) / 2, decimals)}"
    return f"{mean}{dialect.gap}{_format_ends(estimate, decimals, signed=value.signed)}"


def _format_ends(estimate: Estimate, decimals: int, *, signed: bool = False) -> str:
    """Format the ends of an interval, with a dash for an unknown end.

    Args:
        estimate: Estimate with the interval.
        decimals: Number of decimals.
        signed: Whether positive ends get a plus.
    """
    ends = [
        DASH if end is None else format_number(end, decimals, signed=signed)
        for end in (estimate.low, estimate.high)
    ]
    return f"[{', '.join(ends)}]"


def format_cell_text(cell: Cell | None, dialect: Dialect = PLAIN) -> str:
    """Format a cell in a dialect; None becomes a dash."""
    match cell:
        case None:
            return DASH
        case Text(text=text):
            return text
        case Counts():
            absences = ", ".join(cell.absence_texts())
            return f"{cell.finished_text} ({absences})" if absences else cell.finished_text
        case PValue(p):
            return format_p(p)
        case Quantity(value, decimals):
            return format_number(value, decimals)
        case Spread(median, low, high):
            return f"{median:g}" if low == high else f"{median:g} ({low}–{high})"
        case Ranged(estimate, decimals, bare):
            ends = _format_ends(estimate, decimals, signed=bare)
            return ends if bare else f"{format_number(estimate.mean, decimals)} {ends}"
        case Value(suffix=suffix):
            text = _format_value(cell, dialect)
            return f"{text}{dialect.gap}{suffix}" if suffix else text
