"""Comparisons that are looked at after every few seeds: when each may stop, and what it then says.

The method is a group-sequential t-test with error spending (Lan and DeMets, Biometrika 1983; equal
shares at equal steps, the power family of Kim and DeMets, Biometrika 1987, with rho = 1) for "it
differs", stepped down over a study's comparisons by Holm's method (Maurer and Bretz, Statistics in
Biopharmaceutical Research 2013). Beside it stand repeated one-sided tests against either side of
the effect (Jennison and Turnbull, JRSS B 1989) for "it is equivalent". At most one of "the
difference is 0" and "the difference is as large as the effect" is true, so that the two need no
correction for each other (three-sided testing: Goeman, Solari and Stijnen, Statistics in Medicine
2010).

A plain t-interval covers too little of what has stopped by its own results: it stops when its mean
happens to be far out, or its deviation small. The interval here inverts tests whose statistic is
Student's t of the difference at the look that stopped. Its distribution is that of simulated
comparisons that are stopped by the very same rule, with normal noise of the deviation that was seen
(hybrid resampling: Chuang and Lai, Biometrika 1998; Statistica Sinica 2000). With one look it is
the t-interval.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from reports.stats.intervals import CONFIDENCE, ROUNDING, Array, Estimate, Whole, critical
from reports.stats.paired import Compared, Decision, Verdict

OPEN, DIFFERS, EQUIVALENT = range(3)
_SAID: dict[int, tuple[Decision, Verdict]] = {
    OPEN: ("open", Verdict.UNDECIDED),
    DIFFERS: ("differs", Verdict.DIFFERS),
    EQUIVALENT: ("equivalent", Verdict.EQUIVALENT),
}

MOST_LOOKS, MOST_COMPARISONS = 40, 100
PATHS = 1_000_000  # simulated comparisons without a difference that the bounds are quantiles of
# The part of them with the largest t, which holds all quantiles: 5% are passed at most, and 5%
# have passed before.
HIGHEST = 0.12
SIMULATED = 10_000  # comparisons that an interval's ends come from
FARTHEST, HALVINGS = 40.0, 25  # standard errors that an end may lie away; steps towards it


@dataclass(frozen=True)
class Design:
    """When a study's comparisons are looked at, and for what.

    effect: the difference that matters, in the metric's points, > 0.
    looks: numbers of seeds, at least 2, ascending; after the last one a comparison stays open.
    comparisons: in the study. "Differs" is said at 5% for all of them together, "equivalent" at
        2.5% for each, as its own 95% interval says it.
    """

    effect: float
    looks: tuple[int, ...]
    comparisons: int

    @property
    def bounds(self) -> "Bounds":
        """The critical values; the first call for such looks takes seconds."""
        return bounds_of(self.looks, self.comparisons)


@dataclass(frozen=True)
class Bounds:
    """Critical values of t.

    differs: of the difference against 0, on either side, (comparisons, looks): row m - 1 while m
        comparisons have not been found to differ.
    equivalent: of the difference against the effect, and against minus the effect, (looks,).
    """

    differs: Array
    equivalent: Array


@dataclass(frozen=True)
class Stops:
    """Where comparisons have stopped, and why; (..., comparisons) each.

    look: the one that decided, counted from 0; of an open one the last that it has been through.
    why: OPEN, DIFFERS or EQUIVALENT. A difference that is both is DIFFERS.
    outer: (looks, ..., comparisons): the bounds of "differs" that it met, and would have met at the
        looks to come if no other comparison had been found to differ since.
    """

    look: Whole
    why: Whole
    outer: Array


def stages(pilot: int, most: int) -> tuple[int, ...]:
    """Numbers of seeds to look at: the pilot's, then half as many more each time, `most` at last.

    The steps are longer where there would be more than MOST_LOOKS.

    Args:
        pilot: at least 2.
        most: at least as many.
    """
    rest = most - pilot
    steps = min(math.ceil(2 * rest / pilot), MOST_LOOKS - 1)
    return (*(most - (steps - step) * rest // steps for step in range(steps)), most)


@lru_cache(maxsize=4)
def bounds_of(looks: tuple[int, ...], comparisons: int) -> Bounds:
    """What a study's comparisons stop at.

    By the look at n of N seeds a share n / N of the error is spent. The first value is Student's;
    the later ones are quantiles of simulated comparisons that have not stopped before, always the
    same. (Values of a normal process, carried over to Student's t by equal tail areas, are passed
    7 to 13% too often with 5 seeds a look.)

    Args:
        looks, comparisons: see Design.
    """
    outer, inner = np.empty((comparisons, len(looks))), np.empty(len(looks))
    differing = [np.zeros(PATHS, bool) for _ in range(comparisons)]  # with m + 1 comparisons
    near = np.zeros(PATHS, bool)
    spent = np.diff([0, *looks]) / looks[-1]
    for at, (t, _) in enumerate(simulated(looks, PATHS)):
        high = _descending(np.abs(t))
        size = np.abs(t[high])
        for m, passed in enumerate(differing):
            alpha = (1 - CONFIDENCE) / (m + 1) * spent[at]
            own = size[~passed[high]]
            outer[m, at] = critical(looks[0] - 1, alpha) if at == 0 else _passed_by(own, alpha)
            passed[high[size > outer[m, at]]] = True
        high = _descending(t)
        alpha, own = (1 - CONFIDENCE) / 2 * spent[at], t[high[~near[high]]]
        inner[at] = critical(looks[0] - 1, 2 * alpha) if at == 0 else _passed_by(own, alpha)
        near |= t > inner[at]
    return Bounds(outer, inner)


def _descending(values: Array) -> Whole:
    """Places of the highest values, the highest first."""
    count = int(HIGHEST * len(values))
    places = np.argpartition(values, -count)[-count:]
    return places[np.argsort(-values[places])]


def _passed_by(descending: Array, alpha: float) -> float:
    """The value that a share alpha of all simulated comparisons passes."""
    return float(descending[max(1, round(alpha * PATHS))])


def simulated(looks: Sequence[int], paths: int) -> Iterator[tuple[Array, Array]]:
    """Comparisons without a difference, of normal noise of deviation 1; always the same ones.

    Args:
        looks: numbers of seeds, at least 2, ascending.
        paths: how many comparisons.

    Returns:
        For each look t and the observed standard deviation, (paths,) each.
    """
    rng = np.random.default_rng([*looks, paths])
    sums, squares = np.zeros(paths), np.zeros(paths)
    for before, n in pairwise((0, *looks)):
        step = n - before  # of so many seeds: the sum of their values, and of the squares
        normal = rng.standard_normal(paths)
        sums += math.sqrt(step) * normal
        squares += normal**2 + (rng.chisquare(step - 1, paths) if step > 1 else 0.0)
        std = np.sqrt((squares - sums**2 / n) / (n - 1))
        yield sums / (math.sqrt(n) * std), std


def decide(design: Design, means: Array, stds: Array, given: Whole | None = None) -> Stops:
    """Where the comparisons of studies stop, and why.

    Args:
        design: of the studies.
        means, stds: of the differences over the seeds of each look, (looks, ..., comparisons) each;
            a comparison whose differences do not vary (0) never stops.
        given: how many looks each comparison has been through, (..., comparisons); None: all.
    """
    bounds, shape = design.bounds, means.shape[1:]
    through = np.full(shape, len(design.looks)) if given is None else given
    why, look = np.full(shape, OPEN), np.maximum(through - 1, 0)
    left = np.full(shape, design.comparisons)  # rows of bounds that comparisons are, or were, at
    outer = np.empty(means.shape)
    for at, n in enumerate(design.looks):
        error, mean = stds[at] / math.sqrt(n), np.abs(means[at])
        here = (why == OPEN) & (at < through) & (stds[at] > 0)
        while True:  # each one that is found makes the others' bounds lower, at this look too
            found = (why == DIFFERS).sum(axis=-1, keepdims=True)
            left = np.where(why == OPEN, np.maximum(design.comparisons - found, 1), left)
            differs = here & (why == OPEN) & (mean > bounds.differs[left - 1, at] * error)
            if not differs.any():
                break
            why[differs], look[differs] = DIFFERS, at
        outer[at] = bounds.differs[left - 1, at]
        near = here & (why == OPEN) & (mean + bounds.equivalent[at] * error < design.effect)
        why[near], look[near] = EQUIVALENT, at
    return Stops(look.astype(np.int64), why.astype(np.int64), outer)


def endings(
    design: Design, family: Sequence[Sequence[float]], scale: float
) -> list[Compared | None]:
    """Look at a study's comparisons as often as their seeds allow.

    What comes after a comparison has stopped is not read.

    Args:
        design: of the study.
        family: of each comparison the differences to the baseline, in the order in which the seeds
            were given out; as many as the design has comparisons.
        scale: size of the values that were subtracted: a spread far below it is rounding.

    Returns:
        Each difference over the seeds that it stopped after; of an open one, over those of the last
        look that it has been through. None with fewer seeds than the first look has.
    """
    shape = len(design.looks), len(family)
    means, stds, given = np.zeros(shape), np.zeros(shape), np.zeros(len(family), np.int64)
    for place, differences in enumerate(family):
        for at, n in enumerate(design.looks):
            if n <= len(differences):
                part = np.array(differences[:n], dtype=np.float64)
                means[at, place], stds[at, place] = part.mean(), part.std(ddof=1)
                given[place] = at + 1
    stds[stds <= ROUNDING * scale] = 0.0
    stops = decide(design, means, stds, given)
    return [
        _ending(design, stops, means, stds, place) if given[place] else None
        for place in range(len(family))
    ]


def _ending(design: Design, stops: Stops, means: Array, stds: Array, place: int) -> Compared:
    at = int(stops.look[place])
    mean, std, seeds = float(means[at, place]), float(stds[at, place]), design.looks[at]
    if not std:
        alone = Estimate(mean, None, None, seeds)
        return Compared(alone, decision="constant", verdict=Verdict.UNDECIDED)
    outcome = Outcome(design, tuple(stops.outer[:, place].tolist()), mean, std, seeds)
    low, high = outcome.interval()
    decision, verdict = _SAID[int(stops.why[place])]
    return Compared(Estimate(mean, low, high, seeds), decision=decision, verdict=verdict)


@dataclass(frozen=True)
class Outcome:
    """A comparison at the look that stopped it.

    outer: the bounds of "differs", one a look (see Stops).
    mean, std, seeds: of the differences there; std > 0.
    """

    design: Design
    outer: tuple[float, ...]
    mean: float
    std: float
    seeds: int

    def interval(self) -> tuple[float, float]:
        """The ends of the 95% interval, in the metric's points."""
        tail = (1 - CONFIDENCE) / 2
        return self._end(tail), self._end(1 - tail)

    def chance_above(self, difference: float) -> float:
        """Share of studies in which t of the mean to the true difference is as high as here.

        Args:
            difference: the true one, in points.
        """
        ts, stds = _noise(self.design.looks)
        roots = np.sqrt(np.array(self.design.looks))
        own = (self.mean - difference) / self.std * math.sqrt(self.seeds)
        outer, inner = self.outer, self.design.bounds.equivalent
        shift, effect = difference / self.std, self.design.effect / self.std
        running, above = np.arange(ts.shape[1]), 0
        for at, root in enumerate(roots):
            centred, in_errors = ts[at, running], root / stds[at, running]
            t = np.abs(centred + shift * in_errors)
            stops = (t > outer[at]) | (t + inner[at] < effect * in_errors)
            if at == len(roots) - 1:
                stops[:] = True
            above += int((centred[stops] >= own).sum())
            running = running[~stops]
        return above / SIMULATED

    def _end(self, chance: float) -> float:
        """The true difference under which that share of studies has t as high as here."""
        error = self.std / math.sqrt(self.seeds)
        low, high = self.mean - FARTHEST * error, self.mean + FARTHEST * error
        for _ in range(HALVINGS):  # the share grows with the difference
            middle = (low + high) / 2
            if self.chance_above(middle) < chance:
                low = middle
            else:
                high = middle
        return (low + high) / 2


@lru_cache(maxsize=2)
def _noise(looks: tuple[int, ...]) -> tuple[Array, Array]:
    ts, stds = zip(*simulated(looks, SIMULATED), strict=True)
    return np.array(ts), np.array(stds)
