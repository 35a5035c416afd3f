"""Residuals of a table of results with an effect per row and an effect per column."""

import numpy as np

from harness.intervals import Array


def compute_additive_residuals(values: Array) -> Array:
    """Return results after subtracting row and column means, and adding back the grand mean.

    Args:
        values: Results of S configurations (rows) under R seeds (columns), (S, R).

    Returns:
        The residuals, (S, R). Their rows and columns sum to 0.
    """
    if not values.size:
        return values
    row_means = values.mean(axis=1, keepdims=True)
    return np.asarray(values - row_means - values.mean(axis=0) + values.mean())
