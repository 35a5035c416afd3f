"""Flags that trials raised, made fit for counting: a zero or a null where a run says neither."""

from collections.abc import Iterable, Mapping

import polars as pl

from reports.contract import COMPLETE, FLAG, Tag
from reports.read.runs import Run

_DIVERSITY = f"{FLAG}diversity_collapse"
# A point by construction, and a few real pictures a class: neither is a generator's collapse.
_NOT_DIVERSE = ("text_feature", "real_pictures")


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
    keys = {run.tags[Tag.SETTING_KEY] for run in runs if _no_spread(run.params)}
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
