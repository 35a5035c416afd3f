"""Factors and pairs of factors as orthonormal contrasts between settings.

Source: type II sums of squares (Langsrud, "ANOVA for unbalanced data: use type II instead of type
III sums of squares", Statistics and Computing 13, 2003). A factor is adjusted for the other
factors, a pair for all factors and the other pairs. On a complete grid nothing needs adjusting, and
these are the sums of squares of the textbook.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.analysis.layout import Varied
from reports.stats import Array

# A column that keeps less of its length than this is a combination of the others.
_DEPENDENT = 1e-8
MOST_COLUMNS = 1_500  # of all pairs together; with more, decomposing them takes seconds


@dataclass(frozen=True, eq=False)
class Term:
    """A factor, or a pair of factors, by their places.

    basis: (S, df), orthonormal, and orthogonal to the constant and to what it is adjusted for. df
        0: the term cannot be told from others.
    """

    factors: tuple[int, ...]
    basis: Array

    @property
    def freedom(self) -> int:
        """Degrees of freedom."""
        return int(self.basis.shape[1])


@dataclass(frozen=True)
class Model:
    """The terms of a study, and the span (S, p) of them all with the constant, orthonormal."""

    terms: tuple[Term, ...]
    span: Array

    @property
    def left(self) -> int:
        """Degrees of freedom between settings that no term has."""
        return int(self.span.shape[0] - self.span.shape[1])


def level_columns(factor: Varied) -> Array:
    """A column a level, which sum to zero where the factor is active and are 0 elsewhere, (S, L).

    So a factor that only some settings have is about the differences among those, and what
    activates it is about the difference between them and the others.
    """
    active = factor.codes >= 0
    columns = (factor.codes[:, None] == np.arange(len(factor.levels))).astype(np.float64)
    return np.asarray(np.where(active[:, None], columns - columns[active].mean(axis=0), 0.0))


def grid_model(factors: Sequence[Varied]) -> Model:
    """Every factor, and every pair of them unless there are too many columns."""
    mains = [level_columns(factor) for factor in factors]
    pairs = list(itertools.combinations(range(len(mains)), 2))
    if sum(mains[a].shape[1] * mains[b].shape[1] for a, b in pairs) > MOST_COLUMNS:
        pairs = []
    columns: dict[tuple[int, ...], Array] = {(i,): column for i, column in enumerate(mains)}
    for a, b in pairs:  # products of every two columns
        product = mains[a][:, :, None] * mains[b][:, None, :]
        columns[a, b] = product.reshape(len(product), -1)
    return _model(columns)


def _model(columns: dict[tuple[int, ...], Array]) -> Model:
    constant = np.ones((len(next(iter(columns.values()))), 1))
    terms = []
    for own in columns:
        others = [c for key, c in columns.items() if key != own and len(key) <= len(own)]
        beside = _orthonormal(np.hstack([constant, *others]))
        left = columns[own] - beside @ (beside.T @ columns[own])
        terms.append(
            Term(own, _orthonormal(left, float(np.linalg.norm(columns[own], axis=0).max())))
        )
    return Model(tuple(terms), _orthonormal(np.hstack([constant, *columns.values()])))


def _orthonormal(columns: Array, scale: float | None = None) -> Array:
    """An orthonormal basis of the columns' span.

    Args:
        columns: (S, c).
        scale: the length against which a column counts as nothing; None: the longest one's.
    """
    from scipy import linalg

    q, r, _ = linalg.qr(columns, mode="economic", pivoting=True)
    lengths = np.abs(np.diag(r))
    largest = lengths.max(initial=0.0) if scale is None else scale
    return np.asarray(q[:, : int((lengths > _DEPENDENT * largest).sum())])
