"""How a metric goes with the levels of one factor, over the others and for each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reports.analysis.layout import Layout, Varied, as_numbers, layout
from reports.read import Study
from reports.stats import Array
from reports.tables import interval_of, level_text

MOST_LINES = 100  # single lines of a factor; more are a blot
MOST_VALUES = 2_000  # of all of them together
FEWEST = 10  # settings of a forest
_TREES = 100
_POINTS = 20  # along a range
MOST_ROWS = 300  # settings that a forest's curve is averaged over, spread evenly


@dataclass(frozen=True)
class Dependence:
    """One factor.

    fitted: whether the numbers are a forest's; of a grid they are the settings' own.
    points: of each level: level (text), x (None unless the factor is numeric), mean, low, high
        (over seeds; ends may be None), n (seeds).
    lines: the same for each setting of the other factors alone, of each level: line (its number),
        others (those settings, in words), level, x, value (mean over seeds).
    drawn, of: how many lines these are, of how many that there are. They are spread evenly over the
        study, at most MOST_LINES, and of MOST_VALUES values where levels are many.
    """

    factor: str
    fitted: bool
    points: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    drawn: int
    of: int


def partial_dependence(study: Study, metric: str) -> tuple[Dependence, ...]:
    """Of every factor that varies: the mean at its levels, and the single lines behind it.

    There is none with too few settings for a forest.

    On a grid the mean is over the settings that have the level, and a line joins settings that
    differ in the factor alone. In a sampled study both are a random forest's partial dependence
    (Friedman, "Greedy function approximation", 2001) and individual conditional expectation
    (Goldstein et al., arXiv:1309.6392); one forest predicts every seed, so that the interval is
    over seeds, for this forest.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.

    Raises:
        Unavailable: see layout.
    """
    found = layout(study, metric)
    if found.study.sampler == "grid":
        return tuple(_on_grid(found, factor, metric) for factor in found.factors)
    return tuple(_by_forest(found, metric)) if len(found.settings) >= FEWEST else ()


def _on_grid(found: Layout, factor: Varied, metric: str) -> Dependence:
    places = range(len(factor.levels))
    points = [found.values[factor.codes == place].mean(axis=0) for place in places]
    means = found.values.mean(axis=1)
    lines: dict[str, Array] = {}
    for row in np.flatnonzero(factor.codes >= 0).tolist():
        line = lines.setdefault(_others(found, factor, row), np.full(len(places), np.nan))
        line[factor.codes[row]] = means[row]
    return _dependence(factor, factor.levels, points, list(lines.items()), metric, fitted=False)


def _by_forest(found: Layout, metric: str) -> Iterator[Dependence]:
    """Fit one forest to all seeds, and follow each factor through it."""
    from sklearn.ensemble import RandomForestRegressor

    values, factors = found.values, found.factors
    parts = [
        _columns(factor, [None if code < 0 else factor.levels[code] for code in factor.codes])
        for factor in factors
    ]
    known = np.hstack(parts)
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
    forest.fit(known, values if values.shape[1] > 1 else values.ravel())
    ends = np.cumsum([part.shape[1] for part in parts])
    for factor, end, part in zip(factors, ends, parts, strict=True):
        active = np.flatnonzero(factor.codes >= 0)
        rows = active[_spread(len(active), MOST_ROWS)]
        levels = _along(factor)
        # sklearn.inspection would set one column at a time, and words have several
        asked = np.repeat(known[rows], len(levels), axis=0)
        asked[:, end - part.shape[1] : end] = np.tile(_columns(factor, levels), (len(rows), 1))
        predicted = forest.predict(asked).reshape(len(rows), len(levels), -1)
        names = [_others(found, factor, row) for row in rows.tolist()]
        lines = list(zip(names, predicted.mean(axis=2), strict=True))
        yield _dependence(factor, levels, predicted.mean(axis=0), lines, metric, fitted=True)


def _columns(factor: Varied, values: Sequence[Any]) -> Array:
    """Numbers as they are, words as a column each.

    Where the factor is not active it stands at its middle: what activates it is the only column
    that tells those settings apart.
    """
    numbers = as_numbers(factor.levels)
    if numbers is not None:
        middle = float(np.median([numbers[code] for code in factor.codes if code >= 0]))
        return np.array([[middle if value is None else float(value)] for value in values])
    even = 1 / len(factor.levels)
    return np.array(
        [[even if v is None else float(v == level) for level in factor.levels] for v in values]
    )


def _along(factor: Varied) -> Sequence[Any]:
    """The levels of a factor, or some points along a range on its scale."""
    numbers = as_numbers(factor.levels)
    if numbers is None or len(numbers) <= _POINTS:
        return factor.levels
    low, high = numbers[0], numbers[-1]
    log = factor.factor.log and low > 0
    points = (np.geomspace if log else np.linspace)(low, high, _POINTS).tolist()
    whole = all(isinstance(level, int) for level in factor.levels)
    return sorted({round(point) for point in points}) if whole else points


def _dependence(
    factor: Varied,
    levels: Sequence[Any],
    points: Sequence[Array],
    lines: Sequence[tuple[str, Array]],
    metric: str,
    *,
    fitted: bool,
) -> Dependence:
    """The means and the lines of a factor; a line's value that is not a number has no row.

    Args:
        factor: whose levels they are.
        levels: L of them.
        points: (L, R).
        lines: each setting of the other factors in words, with its values, (L,).
        metric: that they are of.
        fitted: whether they are a forest's.
    """
    xs: Sequence[float | None] = as_numbers(levels) or [None] * len(levels)
    places = [{"level": level_text(one), "x": x} for one, x in zip(levels, xs, strict=True)]
    estimates = [asdict(interval_of(metric, list(seeds))) for seeds in points]
    shown = _spread(len(lines), max(1, min(MOST_LINES, MOST_VALUES // len(levels))))
    single = [
        {"line": number, "others": lines[line][0], **at, "value": float(value)}
        for number, line in enumerate(shown)
        for at, value in zip(places, lines[line][1], strict=True)
        if np.isfinite(value)
    ]
    means = [{**at, **estimate} for at, estimate in zip(places, estimates, strict=True)]
    return Dependence(factor.factor.key, fitted, means, single, len(shown), len(lines))


def _spread(count: int, most: int) -> list[int]:
    """At most so many places of a list of some length, evenly over it."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})


def _others(found: Layout, factor: Varied, row: int) -> str:
    """The other factors of a setting in words; "" where there are none."""
    rest = found.settings[row].assignment
    return ", ".join(
        f"{key} {level_text(value)}" for key, value in rest.items() if key != factor.factor.key
    )
