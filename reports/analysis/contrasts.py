"""Factors and pairs of factors as orthonormal contrasts between configurations.

Source: type II sums of squares (Langsrud, "ANOVA for unbalanced data: use type II instead of type
III sums of squares", Statistics and Computing 13, 2003). A factor is adjusted for the other
factors, a pair for all factors and the other pairs. On a complete grid nothing needs adjusting, and
these are the usual sums of squares.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.analysis.design import VariedFactor
from reports.stats import Array

# A column that keeps less than this share of its length is a combination of the others.
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
    def freedom(self) -> int:
        """Degrees of freedom."""
        return int(self.basis.shape[1])


@dataclass(frozen=True)
class Model:
    """The terms of a study, and an orthonormal basis of their span with the constant, (S, p)."""

    terms: tuple[Term, ...]
    span: Array

    @property
    def residual_freedom(self) -> int:
        """Degrees of freedom between configurations that no term has."""
        return int(self.span.shape[0] - self.span.shape[1])


def level_columns(factor: VariedFactor) -> Array:
    """Return a column per level, (S, L).

    A column sums to zero over configurations in which the factor is active, and is 0 in the others.
    The factor is thus about differences among the former, and the factor that activates it is about
    differences between the two kinds.
    """
    active = factor.codes >= 0
    columns = (factor.codes[:, None] == np.arange(len(factor.levels))).astype(np.float64)
    return np.asarray(np.where(active[:, None], columns - columns[active].mean(axis=0), 0.0))


def grid_model(factors: Sequence[VariedFactor]) -> Model:
    """Return the model of all factors, with all pairs unless these have too many columns."""
    mains = [level_columns(factor) for factor in factors]
    pairs = list(itertools.combinations(range(len(mains)), 2))
    if sum(mains[a].shape[1] * mains[b].shape[1] for a, b in pairs) > MAX_COLUMNS:
        pairs = []
    columns: dict[tuple[int, ...], Array] = {(i,): column for i, column in enumerate(mains)}
    for a, b in pairs:  # products of every two columns
        product = mains[a][:, :, None] * mains[b][:, None, :]
        columns[a, b] = product.reshape(len(product), -1)
    return _build_model(columns)


def _build_model(columns: dict[tuple[int, ...], Array]) -> Model:
    """Return the model of the terms with the given columns, each adjusted for the others."""
    constant = np.ones((len(next(iter(columns.values()))), 1))
    terms = []
    for term in columns:
        adjusted_for = [c for key, c in columns.items() if key != term and len(key) <= len(term)]
        nuisance = _orthonormal_basis(np.hstack([constant, *adjusted_for]))
        residual = columns[term] - nuisance @ (nuisance.T @ columns[term])
        largest = float(np.linalg.norm(columns[term], axis=0).max())
        terms.append(Term(term, _orthonormal_basis(residual, largest)))
    return Model(tuple(terms), _orthonormal_basis(np.hstack([constant, *columns.values()])))


def _orthonormal_basis(columns: Array, scale: float | None = None) -> Array:
    """Return an orthonormal basis of the columns' span.

    Args:
        columns: The columns, (S, c).
        scale: Length relative to which a column counts as zero. Defaults to that of the longest
            one.
    """
    from scipy import linalg

    q, r, _ = linalg.qr(columns, mode="economic", pivoting=True)
    lengths = np.abs(np.diag(r))
    largest = lengths.max(initial=0.0) if scale is None else scale
    return np.asarray(q[:, : int((lengths > _DEPENDENT * largest).sum())])
