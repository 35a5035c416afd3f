"""Which factor matters, by how much, whether to trust it, and whether it depends on another one."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from reports.analysis import variance
from reports.analysis.contrasts import Model, Term, grid_model, range_model
from reports.analysis.layout import Layout, Unavailable, Varied, layout
from reports.cells import level_text
from reports.read import Study
from reports.stats import Estimate, holm, is_rounding, scale_of
from reports.tables import interval_of

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
    statistic: of a grid, F of the block ANOVA, paired by seed (see variance.block_f); its degrees
        of freedom are `tested`, and for R seeds R - 1 times it. None without a test.
    cells: of a pair that can be told, for each two levels that some setting has: first, second
        (the levels' texts, in the study's order), mean, low, high (over seeds; the ends are None
        where seeds do not differ), n (seeds), settings (that the mean is over).
    """

    factors: tuple[str, ...]
    share: Estimate | None
    freedom: int
    holm: float | None
    statistic: float | None = None
    tested: float = 0.0
    cells: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Importance:
    """The factors of a study, the most important first.

    over: the settings and seeds that it is over.
    factors, pairs: by the size of their effect; of settings that were drawn there are no pairs.
    rest: the share that no factor and no pair explains; None where there is no such part.
    noise: percent of the variance of settings' means that comes from seeds; None with one seed.
    """

    over: Layout
    factors: tuple[Effect, ...]
    pairs: tuple[Effect, ...]
    rest: Estimate | None
    noise: float | None

    @property
    def interactions(self) -> list[Effect]:
        """The pairs whose interaction can be told, the surest first."""
        told = [pair for pair in self.pairs if pair.statistic is not None]
        return sorted(told, key=lambda pair: (pair.holm or 0.0, -(pair.statistic or 0.0)))


class _Test(NamedTuple):
    """p of a term; of a grid, its F and the degrees of freedom that are tested."""

    p: float | None
    statistic: float | None = None
    freedom: float = 0.0


def importance(study: Study, metric: str) -> Importance:
    """The share of the variance between settings that each factor explains, with a test.

    On a grid it is the ANOVA of configurations in blocks of seeds, with all pairs of factors, and p
    is its F test's, which allows for unequal noise (see variance.block_f). If configurations are
    missing, factors have no p: part of an interaction would count as theirs. In a sampled study a
    range is a cubic polynomial on its scale, and p is from permuted residuals (see
    variance.range_p). Only trials that finished at full fidelity count.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.

    Raises:
        Unavailable: of fewer than two factors, or of too few settings or seeds.
    """
    found = layout(study, metric)
    if is_rounding(np.ptp(found.values, axis=0), scale_of(found.values)):
        raise Unavailable("no setting differs from another under any seed")
    if len(found.factors) < 2:
        only = f"only {found.factors[0].factor.key} varies among finished settings"
        raise Unavailable(f"{only}: there are no shares to compare")
    return (_sampled if found.sampled else _on_grid)(found)


def _on_grid(found: Layout) -> Importance:
    if len(found.seeds) < 2:
        raise Unavailable("one finished seed: nothing tells an effect from the seed's noise")
    model = grid_model(found.factors)
    return _assembled(found, model, [_grid_test(found, term) for term in model.terms])


def _grid_test(found: Layout, term: Term) -> _Test:
    """Test a term of a grid, or return no p where there is nothing to test it by."""
    is_confounded = len(term.factors) == 1 and found.lacking > 0
    if not term.freedom or is_confounded:
        return _Test(None)
    made = variance.block_f(variance.contrasts(term, found.values))
    return _Test(made.p, made.statistic, made.freedom)


def _sampled(found: Layout) -> Importance:
    # Seeded by nothing but the data's order: the same store gives the same numbers.
    rng = np.random.default_rng(0)
    count, factors = len(found.settings), found.factors
    models = (range_model(factors, degree) for degree in _DEGREES)
    model = next((m for m in models if 2 * m.span.shape[1] <= count), None)
    if model is None:
        raise Unavailable(f"{count} finished settings are too few for {len(factors)} factors")
    means = found.values.mean(axis=1)
    p_values = [variance.range_p(means, model, t, rng) if t.freedom else None for t in model.terms]
    return _assembled(found, model, [_Test(p) for p in p_values])


def _assembled(found: Layout, model: Model, tests: Sequence[_Test]) -> Importance:
    """The result of a model, given its terms' tests."""
    total, rest, *own = variance.products(found.values, model)
    # Settings that were drawn differ in more ways than a term has: what is expected of the rest in
    # a degree of freedom is in each of the term's, too.
    leak = rest / model.left if found.sampled and model.left else np.zeros_like(rest)
    parts = [part - term.freedom * leak for term, part in zip(model.terms, own, strict=True)]

    def effects(size: int) -> tuple[Effect, ...]:
        every = zip(model.terms, tests, parts, strict=True)
        family = [one for one in every if len(one[0].factors) == size]
        adjusted = holm([test.p for _, test, _ in family])
        made = []
        for (term, test, part), p in zip(family, adjusted, strict=True):
            factors = [found.factors[place] for place in term.factors]
            effect = Effect(
                tuple(one.factor.key for one in factors),
                variance.share(part, total) if term.freedom else None,
                term.freedom,
                p,
                test.statistic,
                test.freedom,
                _cells(found, *factors) if size == 2 and test.statistic is not None else (),
            )
            made.append((variance.square(part), effect))
        # of sizes that differ by rounding alone the order is the study's, on every machine
        largest = max((abs(squared) for squared, _ in made), default=0.0) or 1.0
        ranked = sorted(made, key=lambda pair: -round(pair[0] / largest, 9))
        return tuple(effect for _, effect in ranked)

    # what polynomials leave over has given some of itself to the factors
    given = (len(found.settings) - 1 - model.left) * leak
    left = variance.share(rest + given, total) if model.left else None
    return Importance(found, effects(1), effects(2), left, variance.noise(total))


def _cells(found: Layout, first: Varied, second: Varied) -> list[dict[str, Any]]:
    """The means of every two levels, over the other factors, with intervals over seeds."""
    cells = []
    for i, j in itertools.product(range(len(first.levels)), range(len(second.levels))):
        own = (first.codes == i) & (second.codes == j)
        if own.any():
            estimate = interval_of(found.metric, found.values[own].mean(axis=0).tolist())
            at = {"first": level_text(first.levels[i]), "second": level_text(second.levels[j])}
            cells.append({**at, **asdict(estimate), "settings": int(own.sum())})
    return cells
