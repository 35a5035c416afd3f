"""A random forest over the settings of a sampled study, and what it predicts along a factor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.analysis.design import Block, Varied, as_numbers
from reports.stats import Array

FEWEST = 10  # settings
_TREES = 100
_POINTS = 20  # along a range
MOST_ROWS = 300  # settings that a curve is averaged over, spread evenly


@dataclass(frozen=True)
class Curves:
    """What a forest predicts where one factor is set to each of some levels.

    levels: of the factor.
    rows: the settings whose other factors are kept, by their places.
    predicted: (rows, levels, R).
    """

    levels: tuple[Any, ...]
    rows: tuple[int, ...]
    predicted: Array


def fitted_curves(block: Block, factors: Sequence[Varied]) -> Iterator[Curves]:
    """Fit one forest to all seeds, and follow each factor through it.

    Args:
        block: at least FEWEST settings.
        factors: what the forest knows of a setting.
    """
    from sklearn.ensemble import RandomForestRegressor

    parts = [_columns(factor, _values(factor)) for factor in factors]
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0)
    known = np.hstack(parts)
    forest.fit(known, block.values if block.values.shape[1] > 1 else block.values.ravel())
    ends = np.cumsum([part.shape[1] for part in parts])
    for factor, end, part in zip(factors, ends, parts, strict=True):
        active = np.flatnonzero(factor.codes >= 0)
        rows = active[
            np.unique(np.linspace(0, len(active) - 1, min(len(active), MOST_ROWS)).astype(int))
        ]
        levels = _along(factor)
        asked = np.repeat(known[rows], len(levels), axis=0)
        asked[:, end - part.shape[1] : end] = np.tile(_columns(factor, levels), (len(rows), 1))
        predicted = forest.predict(asked).reshape(len(rows), len(levels), -1)
        yield Curves(tuple(levels), tuple(rows.tolist()), np.asarray(predicted))


def _values(factor: Varied) -> list[Any]:
    """The level of each setting, None where the factor is not active."""
    return [None if code < 0 else factor.levels[code] for code in factor.codes]


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


def _along(factor: Varied) -> list[Any]:
    """The levels of a factor, or some points along a range on its scale."""
    numbers = as_numbers(factor.levels)
    if numbers is None or len(numbers) <= _POINTS:
        return list(factor.levels)
    low, high = numbers[0], numbers[-1]
    log = factor.factor.log and low > 0
    points = np.geomspace(low, high, _POINTS) if log else np.linspace(low, high, _POINTS)
    if all(isinstance(level, int) for level in factor.levels):
        return sorted({round(point) for point in points.tolist()})
    return [float(point) for point in points]


def spread(count: int, most: int) -> list[int]:
    """At most so many places of a list, evenly over it.

    Args:
        count: the list's length.
        most: of its places.
    """
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))})
