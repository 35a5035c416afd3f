"""How a metric goes with the levels of one factor, over the others and for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from reports.analysis.design import Layout, Unavailable, Varied, as_numbers, layout
from reports.analysis.forest import FEWEST, fitted_curves, spread
from reports.read import Study
from reports.stats import Array, Estimate
from reports.tables import interval_of, level_text

MOST_LINES = 100  # single lines of a factor; more are a blot


@dataclass(frozen=True)
class Dependence:
    """One factor.

    fitted: whether the numbers are a forest's; of a grid they are the settings' own.
    points: a row a level: level (text), x (null unless the factor is numeric), mean, low, high
        (over seeds; ends may be null), n (seeds).
    lines: the same for each setting of the other factors alone, a row a level: line (its number),
        others (those settings, in words), level, x, value (mean over seeds). At most MOST_LINES
        lines, spread evenly over the study.
    """

    factor: str
    fitted: bool
    points: pl.DataFrame
    lines: pl.DataFrame


def partial_dependence(study: Study, metric: str) -> tuple[Dependence, ...] | Unavailable:
    """Of every factor that varies: the mean at its levels, and the single lines behind it.

    On a grid the mean is over the settings that have the level, and a line joins settings that
    differ in the factor alone. In a sampled study both are a random forest's partial dependence
    (Friedman, "Greedy function approximation", 2001) and individual conditional expectation
    (Goldstein et al., arXiv:1309.6392); one forest predicts every seed, so that the interval is
    over seeds, for this forest.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.
    """
    found = layout(study, metric)
    if isinstance(found, Unavailable):
        return found
    if found.study.sampler == "grid":
        return tuple(_on_grid(found, factor, metric) for factor in found.factors)
    if len(found.block.settings) < FEWEST:
        return Unavailable(
            f"{len(found.block.settings)} finished settings: a forest needs {FEWEST}"
        )
    made = []
    for factor, curves in zip(
        found.factors, fitted_curves(found.block, found.factors), strict=True
    ):
        names = [_others(found, factor, row) for row in curves.rows]
        # (lines, levels, R)
        points = [interval_of(metric, list(seeds)) for seeds in curves.predicted.mean(axis=0)]
        shown = spread(len(names), MOST_LINES)
        lines = [(names[i], curves.predicted[i].mean(axis=1)) for i in shown]
        made.append(_dependence(factor, curves.levels, points, lines, fitted=True))
    return tuple(made)


def _on_grid(found: Layout, factor: Varied, metric: str) -> Dependence:
    values, places = found.block.values, range(len(factor.levels))
    points = [
        interval_of(metric, list(values[factor.codes == place].mean(axis=0))) for place in places
    ]
    means = values.mean(axis=1)
    by_others: dict[str, Array] = {}
    for row in np.flatnonzero(factor.codes >= 0).tolist():
        line = by_others.setdefault(_others(found, factor, row), np.full(len(places), np.nan))
        line[factor.codes[row]] = means[row]
    every = list(by_others.items())
    lines = [every[i] for i in spread(len(every), MOST_LINES)]
    return _dependence(factor, factor.levels, points, lines, fitted=False)


def _dependence(
    factor: Varied,
    levels: Sequence[Any],
    points: Sequence[Estimate],
    lines: Sequence[tuple[str, Array]],
    *,
    fitted: bool,
) -> Dependence:
    """The two frames of a factor; a line's value that is not a number has no row."""
    xs: Sequence[float | None] = as_numbers(levels) or [None] * len(levels)
    texts = [level_text(level) for level in levels]
    numbers = pl.DataFrame(
        {
            "level": texts,
            "x": xs,
            "mean": [point.mean for point in points],
            "low": [point.low for point in points],
            "high": [point.high for point in points],
            "n": [point.n for point in points],
        },
        schema_overrides=dict.fromkeys(("x", "low", "high"), pl.Float64),
    )
    single = pl.DataFrame(
        [
            (place, others, text, x, float(value))
            for place, (others, line) in enumerate(lines)
            for text, x, value in zip(texts, xs, line, strict=True)
            if np.isfinite(value)
        ],
        schema={"line": pl.Int64, "others": pl.String, "level": pl.String, "x": pl.Float64,
                "value": pl.Float64},
        orient="row",
    )  # fmt: skip
    return Dependence(factor.factor.key, fitted, numbers, single)


def _others(found: Layout, factor: Varied, row: int) -> str:
    """The other factors of a setting in words; "" where there are none."""
    rest = {**found.block.settings[row].assignment}
    rest.pop(factor.factor.key)
    return ", ".join(f"{key} {level_text(value)}" for key, value in rest.items())
