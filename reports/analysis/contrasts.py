"""Factors and pairs of factors as orthonormal contrasts between configurations.

Source: type II sums of squares (Langsrud, "ANOVA for unbalanced data: use type II instead of type
III sums of squares", Statistics and Computing 13, 2003). A factor is adjusted for the other
factors, a pair for all factors and the other pairs. On a complete grid no adjustment is needed, and
these are the usual sums of squares.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.analysis.design import VariedFactor
from reports.stats import Array

# Relative length of a column, after projecting out the others, below which it depends on them.
_DEPENDENT = 1e-8
MAX_COLUMNS = 1_500  # columns of all pairs; decomposing more of them takes seconds


@dataclass(frozen=True, eq=False)
class Term:
    """A factor, or a pair of factors.

    Attributes:
        factors: Positions of the one or two factors.
        basis: Basis of the contrasts, (S, df): orthonormal, and orthogonal to the constant and to
            the terms that it is adjusted for. df is 0 if the term is confounded with others.
    """

    factors: tuple[int, ...]
    basis: Array

    @property
    def degrees_of_freedom(self) -> int:
        """Number of contrasts."""
        return int(self.basis.shape[1])


@dataclass(frozen=True)
class Model:
    """The terms of a study, and an orthonormal basis of their span with the constant, (S, p)."""

    terms: tuple[Term, ...]
    span: Array

    @property
    def residual_degrees_of_freedom(self) -> int:
        """Degrees of freedom between configurations that remain after all terms."""
        return int(self.span.shape[0] - self.span.shape[1])


def level_columns(factor: VariedFactor) -> Array:
    """Return a centered indicator column per level, (S, L).

    A column sums to zero over the configurations in which the factor is active, and is 0 in the
    others. The factor's contrasts thus compare only configurations in which it is active. The
    difference from the other configurations is attributed to the factor that activates it.
    """
    active = factor.codes >= 0
    columns = (factor.codes[:, None] == np.arange(len(factor.levels))).astype(np.float64)
    return np.asarray(np.where(active[:, None], columns - columns[active].mean(axis=0), 0.0))


def grid_model(factors: Sequence[VariedFactor]) -> Model:
    """Return the model of all factors and their pairs; without pairs above MAX_COLUMNS columns."""
    by_factor = [level_columns(factor) for factor in factors]
    pairs = list(itertools.combinations(range(len(by_factor)), 2))
    if sum(by_factor[a].shape[1] * by_factor[b].shape[1] for a, b in pairs) > MAX_COLUMNS:
        pairs = []
    columns: dict[tuple[int, ...], Array] = {(i,): array for i, array in enumerate(by_factor)}
    for a, b in pairs:  # the product of each column of one factor with each of the other
        product = by_factor[a][:, :, None] * by_factor[b][:, None, :]
        columns[a, b] = product.reshape(len(product), -1)
    return _build_model(columns)


def _build_model(columns: dict[tuple[int, ...], Array]) -> Model:
    """Return the model of some terms, each adjusted for the others.

    Args:
        columns: Columns of each term, (S, c), by the positions of its factors.
    """
    constant = np.ones((len(next(iter(columns.values()))), 1))
    terms = []
    for factors, term_columns in columns.items():
        adjusted_for = [
            other_columns
            for other_factors, other_columns in columns.items()
            if other_factors != factors and len(other_factors) <= len(factors)
        ]
        nuisance = _orthonormal_basis(np.hstack([constant, *adjusted_for]))
        residual = term_columns - nuisance @ (nuisance.T @ term_columns)
        largest = float(np.linalg.norm(term_columns, axis=0).max())
        terms.append(Term(factors, _orthonormal_basis(residual, largest)))
    return Model(tuple(terms), _orthonormal_basis(np.hstack([constant, *columns.values()])))


def _orthonormal_basis(columns: Array, scale: float | None = None) -> Array:
    """Return an orthonormal basis of the columns' span.

    Args:
        columns: The columns, (S, c).
        scale: Length that a column is compared with: if it is shorter than _DEPENDENT * scale, it
            counts as zero. Defaults to the length of the longest column.
    """
    from scipy import linalg

    q, r, _ = linalg.qr(columns, mode="economic", pivoting=True)
    lengths = np.abs(np.diag(r))
    largest = lengths.max(initial=0.0) if scale is None else scale
    return np.asarray(q[:, : int((lengths > _DEPENDENT * largest).sum())])
