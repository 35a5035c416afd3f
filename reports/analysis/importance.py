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
        factors: One or two factor keys.
        share: Percentage, 0 to 100, of the variance between configurations that the effect
            explains. In a grid, the noise of seeds is subtracted, the interval is over seeds, and n
            is their number. In a sampled study it is a share of PED-ANOVA's importance without an
            interval, and n is the number of configurations. None if the configurations do not
            differ beyond the noise, or if the effect is confounded with others.
        freedom: Degrees of freedom; 0 if the effect is confounded with others, or in a sampled
            study.
        holm_p: p of no effect, corrected over the factors or over the pairs; None without a test.
        statistic: F of the block ANOVA, paired by seed (see variance.block_f); None without a test.
        test_freedom: Degrees of freedom of F's numerator. With R seeds, its denominator has R - 1
            times as many.
        cells: Means of a pair with a test, one per combination of two levels that a configuration
            has. Keys: first, second (the levels as text, in the study's order), mean, low, high
            (over seeds; low and high are None if seeds do not differ), n (number of seeds), and
            configurations (number of configurations in the mean).
    """

    factors: tuple[str, ...]
    share: Estimate | None
    freedom: int
    holm_p: float | None
    statistic: float | None = None
    test_freedom: float = 0.0
    cells: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Importance:
    """Importance of a study's factors, the most important first.

    Attributes:
        design: Configurations and seeds that the importance is computed from.
        factors: Effects of the factors, by size.
        pairs: Effects of the pairs, by size; () in a sampled study.
        rest: Share that no factor and no pair explains; None if there is no such part, and in a
            sampled study.
        noise: Percentage of the variance of configurations' means that is due to seeds; None with
            one seed, and in a sampled study.
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
    """p of a term, its F, and the first degrees of freedom of the test."""

    p: float | None
    statistic: float | None = None
    freedom: float = 0.0


def compute_importance(study: Study, metric: str) -> Importance:
    """Return how much each factor explains of the differences between configurations.

    On a grid it is the share of the variance in an ANOVA of configurations in blocks of seeds, with
    all pairs of factors. p is that of its F test, which allows for unequal noise (see
    variance.block_f). If configurations are missing, factors have no p, because part of an
    interaction would count as theirs. In a sampled study it is PED-ANOVA's importance, without a
    test (see ped_anova). Only trials that finished at full fidelity count.

    Args:
        study: The study. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Raises:
        Unavailable: If there are fewer than two factors, or too few configurations or seeds.
    """
    design = make_design(study, metric)
    if is_rounding(np.ptp(design.values, axis=0), scale_of(design.values)):
        raise Unavailable("no configuration differs from another under any seed")
    if len(design.factors) < 2:
        reason = f"only {design.factors[0].factor.key} varies among finished configurations"
        raise Unavailable(f"{reason}: there are no shares to compare")
    return (_sampled_importance if design.is_sampled else _grid_importance)(design)


def _sampled_importance(design: Design) -> Importance:
    """Return the importance of a sampled study's factors."""
    shares, count = ped_anova(design), len(design.configurations)
    keys = sorted((factor.factor.key for factor in design.factors), key=lambda k: -shares.get(k, 0))
    estimates = {key: Estimate(share, None, None, count) for key, share in shares.items()}
    return Importance(
        design, tuple(Effect((key,), estimates.get(key), 0, None) for key in keys), ()
    )


def _grid_importance(design: Design) -> Importance:
    """Return the importance of the factors and pairs of a grid."""
    if len(design.seeds) < 2:
        raise Unavailable(
            "only one seed finished: effects cannot be separated from the noise of seeds"
        )
    model = grid_model(design.factors)
    tests = [_grid_test(design, term) for term in model.terms]
    total, rest, *parts = variance.products(design.values, model)

    def effects(size: int) -> tuple[Effect, ...]:
        entries = zip(model.terms, tests, parts, strict=True)
        family = [entry for entry in entries if len(entry[0].factors) == size]
        p_values = holm([test.p for _, test, _ in family])
        sized_effects = []
        for (term, test, part), p in zip(family, p_values, strict=True):
            factors = [design.factors[place] for place in term.factors]
            effect = Effect(
                tuple(factor.factor.key for factor in factors),
                variance.share_of_variance(part, total) if term.freedom else None,
                term.freedom,
                p,
                test.statistic,
                test.freedom,
                _cell_means(design, *factors) if size == 2 and test.statistic is not None else (),
            )
            sized_effects.append((variance.expected_square(part), effect))
        # sizes that differ only by rounding keep the study's order on every machine
        largest = max((abs(squared) for squared, _ in sized_effects), default=0.0) or 1.0
        sorted_effects = sorted(sized_effects, key=lambda pair: -round(pair[0] / largest, 9))
        return tuple(effect for _, effect in sorted_effects)

    residual_share = variance.share_of_variance(rest, total) if model.residual_freedom else None
    return Importance(
        design, effects(1), effects(2), residual_share, variance.noise_percentage(total)
    )


def _grid_test(design: Design, term: Term) -> _Test:
    """Test a term of a grid; the result has no p if the term is confounded."""
    is_confounded = len(term.factors) == 1 and design.n_left_out > 0
    if not term.freedom or is_confounded:
        return _Test(None)
    test = variance.block_f(variance.contrasts(term, design.values))
    return _Test(test.p, test.statistic, test.freedom)


def _cell_means(design: Design, first: VariedFactor, second: VariedFactor) -> list[dict[str, Any]]:
    """Return the means of every two levels, over the other factors, with intervals over seeds."""
    cells = []
    for i, j in itertools.product(range(len(first.levels)), range(len(second.levels))):
        is_cell = (first.codes == i) & (second.codes == j)
        if is_cell.any():
            estimate = interval_of(design.metric, design.values[is_cell].mean(axis=0).tolist())
            levels = {"first": level_text(first.levels[i]), "second": level_text(second.levels[j])}
            cells.append({**levels, **asdict(estimate), "configurations": int(is_cell.sum())})
    return cells
