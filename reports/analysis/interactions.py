"""Whether a factor's effect depends on another factor: means of every two levels, and a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from reports.analysis.contrasts import distinct, grid_model
from reports.analysis.design import FLAT, Block, Unavailable, Varied, layout
from reports.analysis.variance import block_f, contrasts
from reports.read import Study
from reports.stats import holm
from reports.tables import interval_of, level_text

_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("first", "second"), pl.String),
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
    **dict.fromkeys(("n", "settings"), pl.Int64),
}


@dataclass(frozen=True)
class Interaction:
    """A pair of factors of a grid.

    factors: their keys.
    cells: a row for each two levels that some setting has: first, second (the levels' texts, in the
        study's order), mean, low, high (over seeds; the ends are null where seeds do not differ), n
        (seeds), settings (that the mean is over).
    statistic: F of the block ANOVA. freedom, error_freedom: its degrees of freedom.
    p: of additive effects. holm: corrected over the study's pairs.
    """

    factors: tuple[str, str]
    cells: pl.DataFrame
    statistic: float
    freedom: int
    error_freedom: int
    p: float | None
    holm: float | None


def interactions(study: Study, metric: str) -> tuple[Interaction, ...] | Unavailable:
    """Every pair of factors of a grid whose interaction can be told, the smallest p first.

    The test is paired by seed: a pair's contrasts under each seed against their spread over seeds
    (see variance.over_seeds).

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.
    """
    found = layout(study, metric)
    if isinstance(found, Unavailable):
        return found
    if found.study.sampler != "grid":
        return Unavailable("the settings were drawn: no two levels met more than once")
    if len(found.block.seeds) < 2:
        return Unavailable("one finished seed: nothing tells an effect from the seed's noise")
    if found.block.flat:
        return Unavailable(FLAT)
    model = grid_model(found.factors)
    values, _, other = distinct(found.block.values, found.factors, model)
    both = zip(model.terms, other.terms, strict=True)
    # of a pair whose levels have the same results there is nothing to test
    terms = [
        (tested if tested.freedom else term, bool(tested.freedom))
        for term, tested in both
        if len(term.factors) == 2 and term.freedom
    ]
    tests = [block_f(contrasts(t, values)) if moved else (0.0, 1.0) for t, moved in terms]
    made = []
    for (term, _), (value, p), corrected in zip(
        terms, tests, holm([p for _, p in tests]), strict=True
    ):
        first, second = (found.factors[place] for place in term.factors)
        error = term.freedom * (len(found.block.seeds) - 1)
        keys = (first.factor.key, second.factor.key)
        cells = _cells(found.block, first, second, metric)
        made.append(Interaction(keys, cells, value, term.freedom, error, p, corrected))
    if not made:
        return Unavailable("no two factors vary without each other in finished settings")
    return tuple(sorted(made, key=lambda pair: 1.0 if pair.p is None else pair.p))


def _cells(block: Block, first: Varied, second: Varied, metric: str) -> pl.DataFrame:
    """The means of every two levels, over the other factors, with intervals over seeds."""
    rows = []
    for i, one in enumerate(first.levels):
        for j, other in enumerate(second.levels):
            own = np.flatnonzero((first.codes == i) & (second.codes == j))
            if own.size:
                estimate = interval_of(metric, _by_seed(block, own.tolist()))
                numbers = (estimate.mean, estimate.low, estimate.high, estimate.n, own.size)
                rows.append((level_text(one), level_text(other), *numbers))
    return pl.DataFrame(rows, schema=_COLUMNS, orient="row")


def _by_seed(block: Block, settings: Sequence[int]) -> list[float]:
    return [float(value) for value in block.values[list(settings)].mean(axis=0)]
