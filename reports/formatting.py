"""Number formatting as in papers: one decimal, two significant digits of p, a real minus sign."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reports.cells import Cell, Counts, PValue, Quantity, Ranged, Spread, Text, Value
from reports.stats import Estimate

DASH = "–"
# If one side of an interval is longer by this factor, both ends are shown, not a half-width.
LOPSIDED = 1.5


@dataclass(frozen=True)
class Dialect:
    """Separators between a mean, its half-width and a suffix in an output format."""

    plus_minus: str = " ± "
    gap: str = " "  # before a suffix


PLAIN = Dialect()
STACKED = Dialect(plus_minus="\n±", gap="\n")  # intervals below their means


def break_heading(heading: str) -> list[str]:
    """Split a heading into short lines: between words, and within names of datasets.

    For example, "oxford_pets" becomes "oxford_" and "pets", and "food101" becomes "food" and "101".
    """
    text = heading.replace(" / ", " /\N{NO-BREAK SPACE}").replace(" ", "\n")
    return re.sub(r"_|(?<=[a-z])(?=\d+$)", r"\g<0>\n", text).split("\n")


MAX_NAMED = 6  # a sentence only counts further names


def join_names(names: Sequence[str], separator: str = ", ") -> str:
    """Join names for a sentence: "a, b and c". Of many, name the first few and count the rest.

    Args:
        names: The names.
        separator: Separator of the names. Only commas are followed by an "and" before the last.
    """
    parts, n_more = list(names[:MAX_NAMED]), len(names) - MAX_NAMED
    if n_more > 0:
        parts[-1] += f" and {n_more} more"
    elif separator == ", " and len(parts) > 1:
        parts[-2:] = [" and ".join(parts[-2:])]
    return separator.join(parts)


def number_text(value: float, decimals: int = 1, *, signed: bool = False) -> str:
    """Format a number with fixed decimals and a real minus sign. A negative zero has no sign.

    Args:
        value: The number.
        decimals: Number of decimals.
        signed: Whether a positive number gets a plus.
    """
    text = f"{value:z.{decimals}f}"
    plus = "+" if signed and float(text) > 0 else ""
    return plus + text.replace("-", "−")


def points_text(points: float) -> str:
    """Return percentage points as text: "1 point", "0.5 points"."""
    return f"{points:g} {'point' if points == 1 else 'points'}"


def p_text(p: float) -> str:
    """Format a p-value with two significant digits; "<0.001" if smaller."""
    return "<0.001" if p < 0.001 else f"{p:#.2g}"


def _value_text(value: Value, dialect: Dialect) -> str:
    """Format a mean with its interval.

    The interval is shown as ± half-width, or by both ends if the mean is far from the middle. A
    missing interval is a dash.
    """
    estimate, decimals = value.estimate, value.decimals
    mean = number_text(estimate.mean, decimals, signed=value.signed)
    if estimate.low is None or estimate.high is None:
        return f"{mean}{dialect.plus_minus}{DASH}"
    lower_half, upper_half = estimate.mean - estimate.low, estimate.high - estimate.mean
    if max(upper_half, lower_half) <= LOPSIDED * min(upper_half, lower_half) + 10**-decimals:
        return f"{mean}{dialect.plus_minus}{number_text((upper_half + lower_half) / 2, decimals)}"
    return f"{mean}{dialect.gap}{_ends_text(estimate, decimals, signed=value.signed)}"


def _ends_text(estimate: Estimate, decimals: int, *, signed: bool = False) -> str:
    """Format the ends of an interval, with a dash for an unknown end.

    Args:
        estimate: Estimate with the interval.
        decimals: Number of decimals.
        signed: Whether positive ends get a plus.
    """
    ends = [
        DASH if end is None else number_text(end, decimals, signed=signed)
        for end in (estimate.low, estimate.high)
    ]
    return f"[{', '.join(ends)}]"


def cell_text(cell: Cell | None, dialect: Dialect = PLAIN) -> str:
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
            return p_text(p)
        case Quantity(value, decimals):
            return number_text(value, decimals)
        case Spread(median, low, high):
            return f"{median:g}" if low == high else f"{median:g} ({low}–{high})"
        case Ranged(estimate, decimals, bare):
            ends = _ends_text(estimate, decimals, signed=bare)
            return ends if bare else f"{number_text(estimate.mean, decimals)} {ends}"
        case Value(suffix=suffix):
            text = _value_text(cell, dialect)
            return f"{text}{dialect.gap}{suffix}" if suffix else text
