"""Flags that trials raised: which rows to mark, and the footnote that counts them."""

from collections.abc import Sequence

import polars as pl

from reports.contract import COMPLETE, FLAG, FLAGS
from reports.tables.model import MARK, Flagged, Row

_MOST_NAMED = 4  # rows that a footnote names
# What is raised where a generator's settings have little left to act on.
_COLLAPSES = ("posterior_collapse", "diversity_collapse")


def collapse_of(rows: Sequence[Row]) -> str:
    """The collapse that every finished trial of some rows raised, in words: "... in 24 of 24".

    Args:
        rows: with the flags that they raised.

    Returns:
        "" where there is no such flag.
    """
    for name in _COLLAPSES:
        own = [flag for row in rows for flag in row.flags if flag.name == name]
        if own and len(own) == len(rows) and all(flag.raised == flag.of for flag in own):
            trials = sum(flag.of for flag in own)
            return f"{FLAGS[name][0]} in {trials} of {trials} trials"
    return ""


def raised_flags(rows: pl.DataFrame) -> tuple[Flagged, ...]:
    """The flags that finished rows raised; rows where a flag was not looked for do not count."""
    columns = [name for name in rows.columns if name.startswith(FLAG)]
    if not columns:
        return ()
    done = [state == COMPLETE for state in rows["state"].to_list()]
    found = []
    for column in columns:
        values = [v for v, own in zip(rows[column].to_list(), done, strict=True) if own]
        known = [value for value in values if value is not None]
        raised = sum(value >= 0.5 for value in known)
        if raised:
            found.append(Flagged(column.removeprefix(FLAG), raised, len(known)))
    return tuple(found)


def flag_notes(whole: pl.DataFrame, rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """One line a flag: how many trials raised it, in which rows, and what it means.

    Args:
        whole: every row behind the table, once.
        names: the table's rows in words.
    """
    notes = []
    for flag in raised_flags(whole):
        label, meaning = FLAGS.get(flag.name, (flag.name.replace("_", " "), ""))
        hits = [
            (f"{name}: " if name else "") + f"{own.raised} of {own.of}"
            for name, row in zip(names, rows, strict=True)
            for own in row.flags
            if own.name == flag.name
        ]
        more = f"; {len(hits) - _MOST_NAMED} more rows" if len(hits) > _MOST_NAMED else ""
        where = f" ({'; '.join(hits[:_MOST_NAMED])}{more})" if hits else ""
        total = f"{flag.raised} of {flag.of} trials, one a seed"
        notes.append(f"{MARK} {label} in {total}{where}" + (f": {meaning}" if meaning else ""))
    return notes
