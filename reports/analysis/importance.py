"""Importance of factors: shares of the variance and, on a grid, tests and interactions."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from reports.analysis import variance
from reports.analysis.contrasts import Term, build_model
from reports.analysis.design import Design, Unavailable, VariedFactor, make_design
from reports.analysis.ped_anova import compute_ped_anova_shares
from reports.cells import format_level
from reports.stats import Estimate, adjust_by_holm, compute_scale, is_rounding
from reports.study import Study
from reports.tables import compute_interval


@dataclass(frozen=True)
class Effect:
    """The effect of a factor, or of a pair of factors.

    Attributes:
        factors: Keys of one or two factors.
        share: Share in percent.

            - On a grid: share of the variance between configurations, without the noise of seeds.
              The interval is over seeds, and n is their number. None if the configurations do not
              differ beyond the noise, or if the effect is confounded with others.
            - In a sampled study: share of the sum of PED-ANOVA importances. There is no interval,
              and n is the number of configurations. None if compute_ped_anova_shares returns none.

        degrees_of_freedom: Number of contrasts of the effect. 0 if it is confounded with others,
            and in a sampled study.
        holm_p: p of the test of no effect, Holm-corrected over the factors or over the pairs. None
            without a test.
        statistic: F of the block ANOVA (see variance.compute_block_f). None without a test.
        numerator_df: Degrees of freedom of F's numerator, reduced for unequal noise. With R seeds,
            the denominator has R - 1 times as many. 0 without a test.
        cells: For a pair with a test, a dictionary per combination of two levels that occurs. Its
            keys are first and second (the levels as text), mean, low, high and n (of the estimate
            over seeds), and configurations (the number of configurations in the mean). () for other
            effects.
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
    """Importance of a study's factors and of their pairs.

    Attributes:
        design: Configurations and seeds that the importance is computed from.
        factors: Effects of the factors, the largest first.
        pairs: Effects of the pairs, the largest first. () in a sampled study, and on a grid with
            too many levels for an analysis of pairs (see contrasts.build_model).
        rest: Share of the variance that neither factors nor pairs explain. None in a sampled study,
            if factors and pairs use all degrees of freedom, or if the configurations do not differ
            beyond the noise.
        noise: Percentage of noise in the variance between the configurations' means over seeds.
            None in a sampled study, or if the means do not differ.
    """

    design: Design
    factors: tuple[Effect, ...]
    pairs: tuple[Effect, ...]
    rest: Estimate | None = None
    noise: float | None = None

    @property
    def interactions(self) -> list[Effect]:
        """The pairs that have a test of their interaction, the most significant first."""
        tested_pairs = [pair for pair in self.pairs if pair.statistic is not None]
        return sorted(tested_pairs, key=lambda pair: (pair.holm_p or 0.0, -(pair.statistic or 0.0)))


class _Test(NamedTuple):
    """Uncorrected result of a term's test. A term without a test has p = None and the defaults."""

    p: float | None
    statistic: float | None = None
    numerator_df: float = 0.0


def compute_importance(study: Study, metric: str) -> Importance:
    """Compute how much of the differences between configurations each factor explains.

    A grid is analyzed by an ANOVA of all factors and pairs, with seeds as blocks. Each effect has a
    share of the variance and the p of an F test that is corrected for unequal noise (see
    variance.compute_block_f). If configurations are missing, factors have no p, because part of an
    interaction would be attributed to the factors.

    A sampled study is analyzed by PED-ANOVA, which has no tests (see compute_ped_anova_shares).
    Results of pruned trials are not used.

    Args:
        study: The study. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Raises:
        Unavailable: If there is no design (see make_design), if fewer than two factors vary, if all
            configurations have the same results, if a grid has only one common seed, or if
            PED-ANOVA is undefined (see compute_ped_anova_shares).
    """
    design = make_design(study, metric)
    if is_rounding(np.ptp(design.values, axis=0), compute_scale(design.values)):
        raise Unavailable("all configurations have equal results under each seed")
    if len(design.factors) < 2:
        reason = f"only {design.factors[0].key} varies among finished configurations"
        raise Unavailable(f"{reason}: there are no shares to compare")
    return _analyze_sampled(design) if design.is_sampled else _analyze_grid(design)


def _analyze_sampled(design: Design) -> Importance:
    """Return the importance of a sampled study's factors."""
    shares = compute_ped_anova_shares(design)
    n_configurations = len(design.configurations)
    estimates = {
        key: Estimate(share, None, None, n_configurations) for key, share in shares.items()
    }
    keys = sorted((factor.key for factor in design.factors), key=lambda key: -shares.get(key, 0))
    effects = tuple(Effect((key,), estimates.get(key), 0, None) for key in keys)
    return Importance(design, effects, ())


def _analyze_grid(design: Design) -> Importance:
    """Return the importance of the factors and pairs of a grid.

    Raises:
        Unavailable: If the configurations have only one common seed.
    """
    if len(design.seeds) < 2:
        raise Unavailable(
            "only one seed finished: effects cannot be separated from the noise of seeds"
        )
    model = build_model(design.factors)
    tests = [_test_term(design, term) for term in model.terms]
    total, residual, *parts = variance.compute_seed_products(design.values, model)

    def make_effects(n_factors: int) -> tuple[Effect, ...]:
        """Return the effects of the terms that have `n_factors` factors, the largest first."""
        entries = zip(model.terms, tests, parts, strict=True)
        family = [entry for entry in entries if len(entry[0].factors) == n_factors]
        p_values = adjust_by_holm([test.p for _, test, _ in family])
        squares_and_effects = []
        for (term, test, part), p in zip(family, p_values, strict=True):
            factors = [design.factors[position] for position in term.factors]
            is_confounded = not term.degrees_of_freedom
            is_tested_pair = n_factors == 2 and test.statistic is not None
            effect = Effect(
                tuple(factor.key for factor in factors),
                None if is_confounded else variance.compute_share_of_variance(part, total),
                term.degrees_of_freedom,
                p,
                test.statistic,
                test.numerator_df,
                _average_cells(design, *factors) if is_tested_pair else (),
            )
            squares_and_effects.append((variance.estimate_expected_square(part), effect))
        # effects whose sizes differ only by rounding errors keep the study's order
        largest = max((abs(square) for square, _ in squares_and_effects), default=0.0) or 1.0
        squares_and_effects.sort(key=lambda pair: -round(pair[0] / largest, 9))
        return tuple(effect for _, effect in squares_and_effects)

    has_rest = model.residual_degrees_of_freedom > 0
    rest_share = variance.compute_share_of_variance(residual, total) if has_rest else None
    noise = variance.compute_noise_percentage(total)
    return Importance(design, make_effects(1), make_effects(2), rest_share, noise)


def _test_term(design: Design, term: Term) -> _Test:
    """Test a term of a grid.

    Terms that are confounded with others have no test. Factors have no test either if
    configurations are missing (see compute_importance).
    """
    is_factor = len(term.factors) == 1
    if not term.degrees_of_freedom or (is_factor and design.n_left_out):
        return _Test(None)
    test = variance.compute_block_f(variance.compute_term_contrasts(term, design.values))
    return _Test(test.p, test.statistic, test.numerator_df)


def _average_cells(
    design: Design, first: VariedFactor, second: VariedFactor
) -> list[dict[str, Any]]:
    """Return the mean of each combination of two levels (see Effect.cells)."""
    cells = []
    for i, j in itertools.product(range(len(first.levels)), range(len(second.levels))):
        has_levels = (first.codes == i) & (second.codes == j)
        if has_levels.any():
            estimate = compute_interval(
                design.metric, design.values[has_levels].mean(axis=0).tolist()
            )
            levels = {
                "first": format_level(first.levels[i]),
                "second": format_level(second.levels[j]),
            }
            cells.append({**levels, **asdict(estimate), "configurations": int(has_levels.sum())})
    return cells
