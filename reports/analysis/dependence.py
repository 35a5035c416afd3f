"""How a metric goes with the levels of one factor, over the others and for each of them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from reports.analysis.layout import Layout, Varied, layout
from reports.cells import level_id, level_text
from reports.read import Study
from reports.stats import Array
from reports.tables import as_numbers, interval_of

MOST_LINES = 100  # single lines of a factor; more are a blot
MOST_VALUES = 2_000  # of all of them together
FEWEST = 10  # settings of a forest
_TREES = 100
_POINTS = 20  # along a range
MOST_ROWS = 300  # settings that a forest's curve is averaged over, spread evenly

# L levels, the metric at each under R seeds, (L, R), and of each setting of the other factors, in
# words, the mean over seeds at each, (L,)
Curves = tuple[Sequence[Any], Sequence[Array], Sequence[tuple[str, Array]]]


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
    if found.sampled and len(found.settings) < FEWEST:
        return ()
    follow = _forest(found) if found.sampled else partial(_on_grid, found)
    made = []
    for factor in found.factors:
        levels, points, lines = follow(factor)
        xs: Sequence[float | None] = as_numbers(levels) or [None] * len(levels)
        at = [{"level": level_text(one), "x": x} for one, x in zip(levels, xs, strict=True)]
        intervals = [asdict(interval_of(metric, list(seeds))) for seeds in points]
        means = [place | interval for place, interval in zip(at, intervals, strict=True)]
        drawn = _spread(len(lines), max(1, min(MOST_LINES, MOST_VALUES // len(levels))))
        single = [
            {"line": number, "others": lines[line][0], **place, "value": float(value)}
            for number, line in enumerate(drawn)
            for place, value in zip(at, lines[line][1], strict=True)
            if np.isfinite(value)  # a line that lacks a level has no row there
        ]
        key = factor.factor.key
        made.append(Dependence(key, found.sampled, means, single, len(drawn), len(lines)))
    return tuple(made)


def _on_grid(found: Layout, factor: Varied) -> Curves:
    places = range(len(factor.levels))
    points = [found.values[factor.codes == place].mean(axis=0) for place in places]
    means = found.values.mean(axis=1)
    # by the ids of the other factors' levels, whose words are rounded
    lines: dict[str, tuple[str, Array]] = {}
    for row in np.flatnonzero(factor.codes >= 0).tolist():
        own = found.settings[row].assignment
        rest = level_id({key: value for key, value in own.items() if key != factor.factor.key})
        nowhere = np.full(len(places), np.nan)
        _, line = lines.setdefault(rest, (_others(found, factor, row), nowhere))
        line[factor.codes[row]] = means[row]
    return factor.levels, points, list(lines.values())


def _forest(found: Layout) -> Callable[[Varied], Curves]:
    """What follows a factor through one forest, which is fitted to all seeds."""
    from sklearn.ensemble import RandomForestRegressor

    parts = {f.factor.key: _columns(f, f.levels)[f.codes] for f in found.factors}
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
    values = found.values if found.values.shape[1] > 1 else found.values.ravel()
    forest.fit(np.hstack([*parts.values()]), values)

    def follow(factor: Varied) -> Curves:
        active, levels = np.flatnonzero(factor.codes >= 0), _along(factor)
        rows = active[_spread(len(active), MOST_ROWS)]
        # sklearn.inspection would set one column at a time, and words have several
        asked = {key: np.repeat(part[rows], len(levels), axis=0) for key, part in parts.items()}
        asked[factor.factor.key] = np.tile(_columns(factor, levels)[:-1], (len(rows), 1))
        predicted = forest.predict(np.hstack([*asked.values()])).reshape(len(rows), len(levels), -1)
        names = [_others(found, factor, row) for row in rows.tolist()]
        lines = list(zip(names, predicted.mean(axis=2), strict=True))
        return levels, predicted.mean(axis=0), lines

    return follow


def _columns(factor: Varied, levels: Sequence[Any]) -> Array:
    """A row for each of L levels, numbers as they are, words as a column each, (L + 1, c).

    The last row, which is that of code -1, is where the factor is not active: at its middle, since
    what activates it is the only column that tells those settings apart.
    """
    numbers = as_numbers(factor.levels)
    if numbers is None:
        rows = np.eye(len(levels))
        return np.vstack([rows, rows.mean(axis=0)])
    middle = float(np.median([numbers[code] for code in factor.codes if code >= 0]))
    return np.array([[float(level)] for level in (*levels, middle)])


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


def _spread(count: int, most: int) -> list[int]:
    """At most so many places of a list of some length, evenly over it."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})


def _others(found: Layout, factor: Varied, row: int) -> str:
    """The other factors of a setting in words; "" where there are none."""
    rest = found.settings[row].assignment
    return ", ".join(
        f"{key} {level_text(value)}" for key, value in rest.items() if key != factor.factor.key
    )
