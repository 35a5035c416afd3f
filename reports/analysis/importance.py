"""Which factor matters, by how much, and, of a grid, whether to trust it and on what it depends."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from reports.analysis import variance
from reports.analysis.contrasts import Term, grid_model
from reports.analysis.layout import Layout, Unavailable, Varied, layout
from reports.analysis.ped_anova import ped_anova
from reports.cells import level_text
from reports.stats import Estimate, holm, is_rounding, scale_of
from reports.study import Study
from reports.tables import interval_of


@dataclass(frozen=True)
class Effect:
    """A factor, or a pair of factors.

    factors: the keys, one or two.
    share: percent of the variance between settings, 0 to 100, without the part that is seeds'
        noise; its interval is over seeds, n their number. None where the settings do not differ
        beyond that noise, or where the effect cannot be told from others. In a sampled study it is
        a share of PED-ANOVA's importance without an interval, and n is the number of settings.
    freedom: degrees of freedom; 0: it cannot be told from others, or the study is a sampled one.
    holm: p of no effect, corrected over the factors, or over the pairs; None without a test.
    statistic: F of the block ANOVA, paired by seed (see variance.block_f); its degrees of freedom
        are `tested`, and for R seeds R - 1 times it. None without a test.
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
    factors, pairs: by the size of their effect; a sampled study has no pairs.
    rest: the share that no factor and no pair explains; None where there is no such part, and in a
        sampled study.
    noise: percent of the variance of settings' means that comes from seeds; None with one seed, and
        in a sampled study.
    """

    over: Layout
    factors: tuple[Effect, ...]
    pairs: tuple[Effect, ...]
    rest: Estimate | None = None
    noise: float | None = None

    @property
    def interactions(self) -> list[Effect]:
        """The pairs whose interaction can be told, the surest first."""
        told = [pair for pair in self.pairs if pair.statistic is not None]
        return sorted(told, key=lambda pair: (pair.holm or 0.0, -(pair.statistic or 0.0)))


class _Test(NamedTuple):
    """p of a term, its F and the degrees of freedom that are tested."""

    p: float | None
    statistic: float | None = None
    freedom: float = 0.0


def importance(study: Study, metric: str) -> Importance:
    """Return how much each factor explains of the differences between settings.

    On a grid it is the share of the variance in an ANOVA of configurations in blocks of seeds, with
    all pairs of factors, and p is its F test's, which allows for unequal noise (see
    variance.block_f). If configurations are missing, factors have no p: part of an interaction
    would count as theirs. In a sampled study it is PED-ANOVA's importance, without a test (see
    ped_anova). Only trials that finished at full fidelity count.

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


def _sampled(found: Layout) -> Importance:
    shares, count = ped_anova(found), len(found.settings)
    keys = sorted((factor.factor.key for factor in found.factors), key=lambda k: -shares.get(k, 0))
    estimates = {key: Estimate(share, None, None, count) for key, share in shares.items()}
    return Importance(found, tuple(Effect((key,), estimates.get(key), 0, None) for key in keys), ())


def _on_grid(found: Layout) -> Importance:
    if len(found.seeds) < 2:
        raise Unavailable("one finished seed: nothing tells an effect from the seed's noise")
    model = grid_model(found.factors)
    tests = [_grid_test(found, term) for term in model.terms]
    total, rest, *parts = variance.products(found.values, model)

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

    left = variance.share(rest, total) if model.left else None
    return Importance(found, effects(1), effects(2), left, variance.noise(total))


def _grid_test(found: Layout, term: Term) -> _Test:
    """Test a term of a grid, or return no p where there is nothing to test it by."""
    is_confounded = len(term.factors) == 1 and found.lacking > 0
    if not term.freedom or is_confounded:
        return _Test(None)
    made = variance.block_f(variance.contrasts(term, found.values))
    return _Test(made.p, made.statistic, made.freedom)


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
