"""Importance of factors: shares of the variance and, on a grid, tests and interactions."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from reports.analysis import variance
from reports.analysis.contrasts import Term, grid_model
from reports.analysis.design import Design, Unavailable, VariedFactor, make_design
from reports.analysis.ped_anova import ped_anova
from reports.cells import level_text
from reports.stats import Estimate, holm, is_rounding, scale_of
from reports.study import Study
from reports.tables import interval_of


@dataclass(frozen=True)
class Effect:
    """The effect of a factor, or of a pair of factors.

    Attributes:
        factors: Keys of one or two factors.
        share: Percentage, from 0 to 100. On a grid, it is the share of the variance between
            configurations, after subtracting the noise of seeds; the interval is over seeds, and n
            is their number. In a sampled study, it is the share of PED-ANOVA's importance, without
            an interval, and n is the number of configurations. None if the configurations do not
            differ beyond the noise, or if the effect is confounded with others.
        degrees_of_freedom: Number of contrasts of the effect. 0 if it is confounded with others,
            and in a sampled study.
        holm_p: p of the hypothesis of no effect, Holm-corrected over the factors or over the pairs.
            None without a test.
        statistic: F of the block ANOVA (see variance.block_f). None without a test.
        numerator_df: Degrees of freedom of F's numerator, reduced if noise is unequal. With R
            seeds, the denominator has R - 1 times as many.
        cells: For a pair with a test, a dictionary for each combination of two levels that occurs.
            Its keys are first and second (the levels as text), mean, low, high and n (of the
            estimate over seeds), and configurations (the number of configurations in the mean).
    """

    factors: tuple[str, ...]
    share: Estimate | None
    degrees_of_freedom: int
    holm_p: float | None
    statistic: float | None = None
    numerator_df: float = 0.0
    cells: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Importance:
    """Importance of a study's factors, the most important first.

    Attributes:
        design: Configurations and seeds that the importance is computed from.
        factors: Effects of the factors, the largest first.
        pairs: Effects of the pairs, the largest first. () in a sampled study.
        rest: Share that neither factors nor pairs explain. None if they leave no degrees of
            freedom, if configurations do not differ beyond the noise, and in a sampled study.
        noise: Percentage of the variance between the configurations' means over seeds that is
            noise, because the number of seeds is finite. None if the means do not differ, and in a
            sampled study.
    """

    design: Design
    factors: tuple[Effect, ...]
    pairs: tuple[Effect, ...]
    rest: Estimate | None = None
    noise: float | None = None

    @property
    def interactions(self) -> list[Effect]:
        """Pairs with a test of their interaction, the most significant first."""
        tested_pairs = [pair for pair in self.pairs if pair.statistic is not None]
        return sorted(tested_pairs, key=lambda pair: (pair.holm_p or 0.0, -(pair.statistic or 0.0)))


class _Test(NamedTuple):
    """p of a term, its F, and the degrees of freedom of F's numerator."""

    p: float | None
    statistic: float | None = None
    numerator_df: float = 0.0


def compute_importance(study: Study, metric: str) -> Importance:
    """Compute how much of the differences between configurations each factor explains.

    On a grid, this is the share of the variance in an ANOVA with seeds as blocks and all pairs of
    factors. p is from the ANOVA's F test, corrected for unequal noise (see variance.block_f). If
    configurations are missing, factors have no p, because part of an interaction would be
    attributed to them.

    In a sampled study, it is PED-ANOVA's importance, which has no test (see ped_anova). Trials that
    were stopped early do not count.

    Args:
        study: The study. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Raises:
        Unavailable: If fewer than two factors vary, if no configuration differs from another, or
            if there are too few configurations or seeds.
    """
    design = make_design(study, metric)
    if is_rounding(np.ptp(design.values, axis=0), scale_of(design.values)):
        raise Unavailable("no configuration differs from another under any seed")
    if len(design.factors) < 2:
        reason = f"only {design.factors[0].key} varies among finished configurations"
        raise Unavailable(f"{reason}: there are no shares to compare")
    return (_sampled_importance if design.is_sampled else _grid_importance)(design)


def _sampled_importance(design: Design) -> Importance:
    """Return the importance of a sampled study's factors."""
    shares = ped_anova(design)
    n_configurations = len(design.configurations)
    estimates = {
        key: Estimate(share, None, None, n_configurations) for key, share in shares.items()
    }
    keys = sorted((factor.key for factor in design.factors), key=lambda key: -shares.get(key, 0))
    effects = tuple(Effect((key,), estimates.get(key), 0, None) for key in keys)
    return Importance(design, effects, ())


def _grid_importance(design: Design) -> Importance:
    """Return the importance of the factors and pairs of a grid."""
    if len(design.seeds) < 2:
        raise Unavailable(
            "only one seed finished: effects cannot be separated from the noise of seeds"
        )
    model = grid_model(design.factors)
    tests = [_grid_test(design, term) for term in model.terms]
    total, rest, *parts = variance.seed_products(design.values, model)

    def effects(size: int) -> tuple[Effect, ...]:
        """Return the effects of the terms of `size` factors, the largest first."""
        entries = zip(model.terms, tests, parts, strict=True)
        family = [entry for entry in entries if len(entry[0].factors) == size]
        p_values = holm([test.p for _, test, _ in family])
        sized_effects = []
        for (term, test, part), p in zip(family, p_values, strict=True):
            factors = [design.factors[position] for position in term.factors]
            is_confounded = not term.degrees_of_freedom
            effect = Effect(
                tuple(factor.key for factor in factors),
                None if is_confounded else variance.share_of_variance(part, total),
                term.degrees_of_freedom,
                p,
                test.statistic,
                test.numerator_df,
                _cell_means(design, *factors) if size == 2 and test.statistic is not None else (),
            )
            sized_effects.append((variance.expected_square(part), effect))
        # sizes that differ only by rounding keep the study's order on every machine
        largest = max((abs(squared) for squared, _ in sized_effects), default=0.0) or 1.0
        sorted_effects = sorted(sized_effects, key=lambda pair: -round(pair[0] / largest, 9))
        return tuple(effect for _, effect in sorted_effects)

    has_rest = model.residual_degrees_of_freedom > 0
    residual_share = variance.share_of_variance(rest, total) if has_rest else None
    return Importance(
        design, effects(1), effects(2), residual_share, variance.noise_percentage(total)
    )


def _grid_test(design: Design, term: Term) -> _Test:
    """Test a term of a grid.

    There is no p if the term is confounded with others. There is also none for a factor if
    configurations are missing, because part of an interaction would be attributed to it.
    """
    is_factor = len(term.factors) == 1
    if not term.degrees_of_freedom or (is_factor and design.n_left_out):
        return _Test(None)
    test = variance.block_f(variance.term_contrasts(term, design.values))
    return _Test(test.p, test.statistic, test.numerator_df)


def _cell_means(design: Design, first: VariedFactor, second: VariedFactor) -> list[dict[str, Any]]:
    """Return the mean of each combination of two levels (see Effect.cells)."""
    cells = []
    for i, j in itertools.product(range(len(first.levels)), range(len(second.levels))):
        is_cell = (first.codes == i) & (second.codes == j)
        if is_cell.any():
            estimate = interval_of(design.metric, design.values[is_cell].mean(axis=0).tolist())
            levels = {"first": level_text(first.levels[i]), "second": level_text(second.levels[j])}
            cells.append({**levels, **asdict(estimate), "configurations": int(is_cell.sum())})
    return cells
