"""Which factor matters, by how much, whether to trust it, and whether it depends on another one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from reports.analysis import variance
from reports.analysis.contrasts import Model, Term, distinct, grid_model, range_model
from reports.analysis.layout import Layout, Unavailable, Varied, layout
from reports.read import Study
from reports.stats import Estimate, holm
from reports.tables import interval_of, level_text

_DEGREES = (3, 2, 1)  # of a range's polynomial, the first that the settings suffice for


@dataclass(frozen=True)
class Effect:
    """A factor, or a pair of factors.

    factors: the keys, one or two.
    share: percent of the variance between settings, 0 to 100, without the part that is seeds'
        noise; its interval is over seeds, n their number. None where the settings do not differ
        beyond that noise, or where the effect cannot be told from others.
    freedom: degrees of freedom; 0: it cannot be told from others.
    holm: p of no effect, corrected over the factors, or over the pairs.
    """

    factors: tuple[str, ...]
    share: Estimate | None
    freedom: int
    holm: float | None


@dataclass(frozen=True)
class Interaction:
    """A pair of factors of a grid; its test is paired by seed.

    That is its contrasts under each seed against their spread over seeds (see variance.over_seeds).

    factors: their keys.
    cells: for each two levels that some setting has: first, second (the levels' texts, in the
        study's order), mean, low, high (over seeds; the ends are None where seeds do not differ), n
        (seeds), settings (that the mean is over).
    statistic: F of the block ANOVA. freedom, error_freedom: its degrees of freedom.
    holm: p of additive effects, corrected over the study's pairs.
    """

    factors: tuple[str, str]
    cells: list[dict[str, Any]]
    statistic: float
    freedom: int
    error_freedom: int
    holm: float | None


@dataclass(frozen=True)
class Importance:
    """The factors of a study, the most important first.

    sampled: whether the settings were drawn, not a grid; there are no pairs then.
    factors, pairs: by the size of their effect.
    rest: the share that no factor and no pair explains; None where there is no such part.
    noise: percent of the variance of settings' means that comes from seeds; None with one seed.
    settings, seeds: how many are in it.
    left_out: in words, what is not; "" if all is.
    interactions: of a grid, the pairs whose interaction can be told, the surest first.
    least: the smallest Holm p that any factor could have had with as many seeds, and as many
        settings whose results are not the same.
    """

    metric: str
    sampled: bool
    factors: tuple[Effect, ...]
    pairs: tuple[Effect, ...]
    rest: Estimate | None
    noise: float | None
    settings: int
    seeds: int
    left_out: str
    interactions: tuple[Interaction, ...] = ()
    least: float = 0.0


def importance(study: Study, metric: str) -> Importance:
    """The share of the variance between settings that each factor explains, with a test.

    On a grid it is the ANOVA of settings in blocks of seeds, with all pairs of factors. A factor's
    p is from shuffling its levels within a seed and a setting of the other factors, which is exact
    if the factor does nothing; a pair's is the F test's, since with main effects there is no exact
    permutation of an interaction (Anderson and ter Braak, "Permutation tests for multi-factorial
    analysis of variance", 2003). In a sampled study a range is a cubic polynomial on its scale, and
    p is from permuted residuals (see variance.range_p). Only trials that finished at full fidelity
    count.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.

    Raises:
        Unavailable: of fewer than two factors, or of too few settings or seeds.
    """
    found = layout(study, metric)
    found.must_differ()
    if len(found.factors) < 2:
        only = f"only {found.factors[0].factor.key} varies among finished settings"
        raise Unavailable(f"{only}: there are no shares to compare")
    # Seeded by nothing but the data's order: the same store gives the same numbers.
    rng = np.random.default_rng(0)
    made = _on_grid if found.study.sampler == "grid" else _sampled
    return made(found, metric, rng)


def _on_grid(found: Layout, metric: str, rng: np.random.Generator) -> Importance:
    found.must_have_seeds()
    model = grid_model(found.factors)
    p_values: list[float | None] = []
    values, apart, other = distinct(found.values, found.factors, model)
    least: list[float] = []
    pairs: list[tuple[Term, int, float, float]] = []
    for term, tested in zip(model.terms, other.terms, strict=True):
        if not term.freedom:
            p_values.append(None)
        elif len(term.factors) == 2 or not tested.freedom:  # its levels have the same results
            value, p = variance.block_f(variance.contrasts(tested, values))
            p_values.append(p)
            if len(term.factors) == 2:
                pairs.append((term, tested.freedom or term.freedom, value, p))
        else:
            p_values.append(variance.grid_p(values, apart, tested, rng))
            least.append(variance.least_grid_p(apart, tested, len(found.seeds)))
    made = _assembled(found, model, p_values, metric)
    family = sum(bool(effect.freedom) for effect in made.factors)
    least_p = min(1.0, family * min(least, default=0.0))
    return replace(made, least=least_p, interactions=_interactions(found, pairs, metric))


def _sampled(found: Layout, metric: str, rng: np.random.Generator) -> Importance:
    count, factors = len(found.settings), found.factors
    models = (range_model(factors, degree) for degree in _DEGREES)
    model = next((m for m in models if 2 * m.span.shape[1] <= count), None)
    if model is None:
        needed = 2 * range_model(factors, _DEGREES[-1]).span.shape[1]
        raise Unavailable(f"{count} finished settings: {len(factors)} factors need {needed}")
    means = found.values.mean(axis=1)
    p_values = [variance.range_p(means, model, t, rng) if t.freedom else None for t in model.terms]
    return _assembled(found, model, p_values, metric)


def _assembled(
    found: Layout, model: Model, p_values: Sequence[float | None], metric: str
) -> Importance:
    """The result of a model, given its terms' p-values."""
    sampled = found.study.sampler != "grid"
    rest = variance.grams(found.values, model, None)

    def leak(freedom: int) -> float:
        return freedom / model.left if sampled and model.left else 0.0

    def effects(size: int) -> tuple[Effect, ...]:
        own = [(t, p) for t, p in zip(model.terms, p_values, strict=True) if len(t.factors) == size]
        made = []
        for (term, _), p in zip(own, holm([p for _, p in own]), strict=True):
            products, leaked = variance.grams(found.values, model, term), leak(term.freedom)
            keys = tuple(found.factors[place].factor.key for place in term.factors)
            part = variance.share(products, leaked) if term.freedom else None
            made.append((variance.strength(products, leaked), Effect(keys, part, term.freedom, p)))
        # of sizes that differ by rounding alone the order is the study's, on every machine
        scale = max((abs(size) for size, _ in made), default=0.0) or 1.0
        ranked = sorted(made, key=lambda pair: -round(pair[0] / scale, 9))
        return tuple(effect for _, effect in ranked)

    # what polynomials leave over has given some of itself to the factors
    own_leak = -leak(len(found.settings) - 1 - model.left)
    return Importance(
        metric,
        sampled,
        effects(1),
        effects(2),
        variance.share(rest, own_leak) if model.left else None,
        variance.noise(rest.total) if len(found.seeds) > 1 else None,
        len(found.settings),
        len(found.seeds),
        found.left_out,
    )


def _interactions(
    found: Layout, tests: Sequence[tuple[Term, int, float, float]], metric: str
) -> tuple[Interaction, ...]:
    """Every pair of factors whose interaction can be told, the smallest p first.

    Args:
        found: of a grid.
        tests: of each pair, its term, degrees of freedom, F and p.
        metric: that is tested.
    """
    corrected, made = holm([p for *_, p in tests]), []
    surest = sorted(zip(tests, corrected, strict=True), key=lambda one: one[0][-1])
    for (term, freedom, value, _), p in surest:
        one, two = (found.factors[place] for place in term.factors)
        keys, cells = (one.factor.key, two.factor.key), _cells(found, one, two, metric)
        made.append(Interaction(keys, cells, value, freedom, freedom * (len(found.seeds) - 1), p))
    return tuple(made)


def _cells(found: Layout, first: Varied, second: Varied, metric: str) -> list[dict[str, Any]]:
    """The means of every two levels, over the other factors, with intervals over seeds."""
    cells = []
    for i, one in enumerate(first.levels):
        for j, other in enumerate(second.levels):
            own = (first.codes == i) & (second.codes == j)
            if own.any():
                estimate = interval_of(metric, found.values[own].mean(axis=0).tolist())
                at = {"first": level_text(one), "second": level_text(other)}
                cells.append({**at, **asdict(estimate), "settings": int(own.sum())})
    return cells
