"""Factors and pairs of factors as orthonormal contrasts between configurations.

A contrast is a vector of S weights, one per configuration, that sum to zero. A term is a factor or
a pair of factors. Projecting the results on the contrasts of a term gives its type II sum of
squares: a factor is adjusted for the other factors, and a pair for all factors and the other pairs.
On a complete grid the adjustment changes nothing. Source: Langsrud, "ANOVA for unbalanced data: use
type II instead of type III sums of squares", Statistics and Computing 13, 2003.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.analysis.design import VariedFactor
from reports.stats import Array

# Columns whose residual norm is below this fraction of the largest norm count as linearly
# dependent.
_MIN_RELATIVE_NORM = 1e-8
# If the pairs have more columns than this in total, no pair is analyzed: it would take seconds.
MAX_COLUMNS = 1_500


@dataclass(frozen=True, eq=False)
class Term:
    """A factor, or a pair of factors.

    Attributes:
        factors: Positions of the one or two factors in the argument of build_model.
        basis: Orthonormal basis of the contrasts, (S, df). It is orthogonal to the constant vector
            and to all terms that this term is adjusted for. df is 0 if the term is confounded with
            them.
    """

    factors: tuple[int, ...]
    basis: Array

    @property
    def degrees_of_freedom(self) -> int:
        """Number of contrasts."""
        return int(self.basis.shape[1])


@dataclass(frozen=True)
class ContrastModel:
    """The terms of a study.

    Attributes:
        terms: The terms, first the factors, then the pairs.
        span: Orthonormal basis of the span of the constant and all terms, (S, rank).
    """

    terms: tuple[Term, ...]
    span: Array

    @property
    def residual_degrees_of_freedom(self) -> int:
        """Degrees of freedom between configurations that are left after all terms."""
        return int(self.span.shape[0] - self.span.shape[1])


def _encode_levels(factor: VariedFactor) -> Array:
    """Return a centered indicator column for each of the factor's L levels, (S, L).

    Configurations in which the factor is inactive have zeros, so the factor's contrasts compare
    only configurations in which it is active. Differences between active and inactive
    configurations are thus attributed to the factor that activates it.
    """
    active = factor.codes >= 0
    indicators = (factor.codes[:, None] == np.arange(len(factor.levels))).astype(np.float64)
    centered = indicators - indicators[active].mean(axis=0)
    return np.asarray(np.where(active[:, None], centered, 0.0))


def build_model(factors: Sequence[VariedFactor]) -> ContrastModel:
    """Return the model of all factors, and of all pairs if these have at most MAX_COLUMNS columns.

    Args:
        factors: The factors that vary among the S configurations.
    """
    by_factor = [_encode_levels(factor) for factor in factors]
    pairs = list(itertools.combinations(range(len(by_factor)), 2))
    if sum(by_factor[a].shape[1] * by_factor[b].shape[1] for a, b in pairs) > MAX_COLUMNS:
        pairs = []
    columns: dict[tuple[int, ...], Array] = {(i,): array for i, array in enumerate(by_factor)}
    for a, b in pairs:
        # each column of the first factor multiplied by each column of the second
        products = by_factor[a][:, :, None] * by_factor[b][:, None, :]
        columns[a, b] = products.reshape(len(products), -1)
    return _adjust_terms(columns)


def _adjust_terms(columns: dict[tuple[int, ...], Array]) -> ContrastModel:
    """Return the model, with each term adjusted as described in the module's docstring.

    Args:
        columns: Columns of each term, (S, c), by the positions of the term's factors.
    """
    constant = np.ones((len(next(iter(columns.values()))), 1))
    terms = []
    for factors, term_columns in columns.items():
        adjusted_for = [
            other_columns
            for other_factors, other_columns in columns.items()
            if other_factors != factors and len(other_factors) <= len(factors)
        ]
        adjustment_basis = _find_orthonormal_basis(np.hstack([constant, *adjusted_for]))
        residuals = term_columns - adjustment_basis @ (adjustment_basis.T @ term_columns)
        largest_norm = float(np.linalg.norm(term_columns, axis=0).max())
        terms.append(Term(factors, _find_orthonormal_basis(residuals, largest_norm)))
    span = _find_orthonormal_basis(np.hstack([constant, *columns.values()]))
    return ContrastModel(tuple(terms), span)


def _find_orthonormal_basis(columns: Array, largest_norm: float | None = None) -> Array:
    """Return an orthonormal basis of the columns' span, (S, rank).

    Args:
        columns: The columns, (S, c).
        largest_norm: Norm that _MIN_RELATIVE_NORM is relative to. Defaults to the largest norm of
            the columns.
    """
    from scipy import linalg

    q, r, _ = linalg.qr(columns, mode="economic", pivoting=True)
    residual_norms = np.abs(np.diag(r))
    if largest_norm is None:
        largest_norm = residual_norms.max(initial=0.0)
    rank = int((residual_norms > _MIN_RELATIVE_NORM * largest_norm).sum())
    return np.asarray(q[:, :rank])
