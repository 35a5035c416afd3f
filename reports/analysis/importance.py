"""Which factor matters, by how much, and whether to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.analysis.contrasts import Model, distinct, grid_model, range_model
from reports.analysis.design import FLAT, Block, Unavailable, Varied, layout
from reports.analysis.permutation import grid_p, least_grid_p, range_p
from reports.analysis.variance import block_f, contrasts, grams, noise, share, strength
from reports.read import Study
from reports.stats import Estimate, holm

_DEGREES = (3, 2, 1)  # of a range's polynomial, the first that the settings suffice for


@dataclass(frozen=True)
class Effect:
    """A factor, or a pair of factors.

    factors: the keys, one or two.
    share: percent of the variance between settings, 0 to 100, without the part that is seeds'
        noise; its interval is over seeds, n their number. None where the settings do not differ
        beyond that noise, or where the effect cannot be told from others.
    freedom: degrees of freedom; 0: it cannot be told from others.
    p: of no effect. holm: corrected over the factors, or over the pairs.
    """

    factors: tuple[str, ...]
    share: Estimate | None
    freedom: int
    p: float | None
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
    least: float = 0.0


def importance(study: Study, metric: str) -> Importance | Unavailable:
    """The share of the variance between settings that each factor explains, with a test.

    On a grid it is the ANOVA of settings in blocks of seeds, with all pairs of factors. A factor's
    p is from shuffling its levels within a seed and a setting of the other factors, which is exact
    if the factor does nothing; a pair's is the F test's, since with main effects there is no exact
    permutation of an interaction (Anderson and ter Braak, "Permutation tests for multi-factorial
    analysis of variance", 2003). In a sampled study a range is a cubic polynomial on its scale, and
    p is from permuted residuals (see permutation.range_p). Only trials that finished at full
    fidelity count.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.
    """
    found = layout(study, metric)
    if isinstance(found, Unavailable):
        return found
    block, factors = found.block, found.factors
    if block.flat:
        return Unavailable(FLAT)
    if len(factors) < 2:
        only = f"only {factors[0].factor.key} varies among finished settings"
        return Unavailable(f"{only}: there are no shares to compare")
    if found.study.sampler == "grid":
        return _on_grid(block, factors, metric)
    return _sampled(block, factors, metric)


def _on_grid(block: Block, factors: Sequence[Varied], metric: str) -> Importance | Unavailable:
    if len(block.seeds) < 2:
        return Unavailable("one finished seed: nothing tells an effect from the seed's noise")
    model = grid_model(factors)
    # Seeded by nothing but the data's order: the same store gives the same numbers.
    rng = np.random.default_rng(0)
    p_values: list[float | None] = []
    values, apart, other = distinct(block.values, factors, model)
    least: list[float] = []
    for term, tested in zip(model.terms, other.terms, strict=True):
        if not term.freedom:
            p_values.append(None)
        elif not tested.freedom:  # its levels have the same results
            p_values.append(1.0)
        elif len(term.factors) == 1:
            p_values.append(grid_p(values, apart, tested, rng))
            least.append(least_grid_p(apart, tested, len(block.seeds)))
        else:
            p_values.append(block_f(contrasts(tested, values))[1])
    made = _assembled(block, factors, model, p_values, metric, sampled=False)
    family = sum(len(term.factors) == 1 and bool(term.freedom) for term in model.terms)
    return replace(made, least=min(1.0, family * min(least, default=0.0)))


def _sampled(block: Block, factors: Sequence[Varied], metric: str) -> Importance | Unavailable:
    count = len(block.settings)
    models = (range_model(factors, degree) for degree in _DEGREES)
    model = next((m for m in models if 2 * m.span.shape[1] <= count), None)
    if model is None:
        needed = 2 * range_model(factors, _DEGREES[-1]).span.shape[1]
        return Unavailable(f"{count} finished settings: {len(factors)} factors need {needed}")
    rng = np.random.default_rng(0)
    means = block.values.mean(axis=1)
    p_values = [range_p(means, model, t, rng) if t.freedom else None for t in model.terms]
    return _assembled(block, factors, model, p_values, metric, sampled=True)


def _assembled(
    block: Block,
    factors: Sequence[Varied],
    model: Model,
    p_values: Sequence[float | None],
    metric: str,
    *,
    sampled: bool,
) -> Importance:
    """The result of a model, given its terms' p-values."""
    rest = grams(block.values, model, None)
    p_of = dict(zip(model.terms, p_values, strict=True))

    def leak(freedom: int) -> float:
        return freedom / model.left if sampled and model.left else 0.0

    def effects(size: int) -> tuple[Effect, ...]:
        terms = [term for term in model.terms if len(term.factors) == size]
        corrected = holm([p_of[term] for term in terms])
        made = []
        for term, p in zip(terms, corrected, strict=True):
            found = grams(block.values, model, term)
            keys = tuple(factors[place].factor.key for place in term.factors)
            own = share(found, leak(term.freedom)) if term.freedom else None
            made.append(
                (
                    strength(found, leak(term.freedom)),
                    Effect(keys, own, term.freedom, p_of[term], p),
                )
            )
        return tuple(effect for _, effect in sorted(made, key=lambda pair: -pair[0]))

    # what polynomials leave over has given some of itself to the factors
    own_leak = -leak(len(block.settings) - 1 - model.left)
    return Importance(
        metric,
        sampled,
        effects(1),
        effects(2),
        share(rest, own_leak) if model.left else None,
        noise(rest.total) if len(block.seeds) > 1 else None,
        len(block.settings),
        len(block.seeds),
        block.left_out,
    )
