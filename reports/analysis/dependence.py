"""How a metric goes with the levels of one factor, over the others and for each of them."""

from collections.abc import Callable, Mapping, Sequence
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

# L levels of a factor, M settings of the others in words, and the metric of each of these at each
# level under R seeds, (M, L, R), not a number where no setting is
Curves = tuple[Sequence[Any], list[str], Array]


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
        levels, others, values = follow(factor)
        xs: Sequence[float | None] = as_numbers(levels) or [None] * len(levels)
        at = [{"level": level_text(one), "x": x} for one, x in zip(levels, xs, strict=True)]
        means = [
            place | asdict(interval_of(metric, seeds))
            for place, seeds in zip(at, np.nanmean(values, axis=0).tolist(), strict=True)
        ]
        drawn = _spread(len(others), max(1, min(MOST_LINES, MOST_VALUES // len(levels))))
        single = [
            {"line": number, "others": others[line], **place, "value": value}
            for number, line in enumerate(drawn)
            for place, value in zip(at, values[line].mean(axis=1).tolist(), strict=True)
            if np.isfinite(value)  # a line that lacks a level has no row there
        ]
        key = factor.factor.key
        made.append(Dependence(key, found.sampled, means, single, len(drawn), len(others)))
    return tuple(made)


def _on_grid(found: Layout, factor: Varied) -> Curves:
    rows = np.flatnonzero(factor.codes >= 0).tolist()
    others = [_others(found, factor, row) for row in rows]
    # by the ids of the other factors' levels, whose words are rounded
    ids = [level_id(rest) for rest in others]
    words = {one: _in_words(rest) for one, rest in zip(ids, others, strict=True)}
    lines = {one: line for line, one in enumerate(words)}
    values = np.full((len(lines), len(factor.levels), len(found.seeds)), np.nan)
    values[[lines[one] for one in ids], factor.codes[rows]] = found.values[rows]
    return factor.levels, list(words.values()), values


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
        return levels, [_in_words(_others(found, factor, row)) for row in rows], predicted

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


def _others(found: Layout, factor: Varied, row: int) -> dict[str, Any]:
    """The levels of the other factors of a setting."""
    own = found.settings[row].assignment
    return {key: level for key, level in own.items() if key != factor.factor.key}


def _in_words(levels: Mapping[str, Any]) -> str:
    """Factors with their levels; "" of none."""
    return ", ".join(f"{key} {level_text(level)}" for key, level in levels.items())
