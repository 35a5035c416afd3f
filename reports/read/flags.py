"""Flags that trials raised: which rows to mark, and the footnote that counts them."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from reports.contract.schema import COMPLETE, FLAG, FLAGS, TAG_KEY
from reports.read.runs import Run
from reports.tables.model import MARK, Flagged, Row

_MOST_NAMED = 4  # rows that a footnote names
_DIVERSITY = f"{FLAG}diversity_collapse"
# A point by construction, and a few real pictures a class: neither is a generator's collapse.
_NOT_DIVERSE = ("text_feature", "real_pictures")


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


def with_zeros(rows: pl.DataFrame, runs: Iterable[Run]) -> pl.DataFrame:
    """The rows, with 0 for every finished one where a flag stands in tags alone.

    Where it is a metric too, a null says that it cannot be raised (nothing was synthesized).
    """
    measured = {key[key.index(FLAG) :] for run in runs for key in run.metrics if FLAG in key}
    silent = [n for n in rows.columns if n.startswith(FLAG) and n not in measured]
    done = pl.col("state") == COMPLETE
    return rows.with_columns(
        pl.when(done).then(pl.col(name).fill_null(0.0)).alias(name) for name in silent
    )


def without_points(rows: pl.DataFrame, runs: Iterable[Run]) -> pl.DataFrame:
    """The rows, with null for a collapse of diversity where diversity was never to be had.

    These are the reference arms named above, and settings whose generator is that of such an arm.
    """
    if _DIVERSITY not in rows.columns:
        return rows
    keys = {run.tags[TAG_KEY] for run in runs if _no_spread(run.params)}
    told = pl.col("arm").is_in(_NOT_DIVERSE) | pl.col("setting_key").is_in(list(keys))
    kept = pl.when(~told.fill_null(value=False)).then(pl.col(_DIVERSITY))
    return rows.with_columns(kept.alias(_DIVERSITY))


def _no_spread(params: Mapping[str, str]) -> bool:
    """Whether params name real pictures, or text features without noise, as the generator."""
    name = params.get("generator.name")
    if name != "gaussian_text":
        return name == "real"
    try:
        return float(params.get("generator.scale", "")) == 0
    except ValueError:
        return False  # null: the scale is fitted


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
