"""What a comparison says that stopped by its own results: decision and interval.

A plain t-interval covers too little there: a comparison stops when its mean happens to be far out,
or its deviation small. This interval inverts tests whose statistic is Student's t of the difference
at the look that stopped. Its distribution is that of simulated comparisons that are stopped by the
very same rule, with normal noise of the deviation that was seen (hybrid resampling: Chuang and Lai,
Biometrika 1998; Statistica Sinica 2000). With one look it is the t-interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from reports.stats.intervals import CONFIDENCE, ROUNDING, Estimate
from reports.stats.paired import Compared, Decision, Verdict
from reports.stats.sequential import (
    DIFFERS,
    EQUIVALENT,
    OPEN,
    Array,
    Design,
    Stops,
    decide,
    simulated,
)

_SAID: dict[int, tuple[Decision, Verdict]] = {
    OPEN: ("open", Verdict.UNDECIDED),
    DIFFERS: ("differs", Verdict.DIFFERS),
    EQUIVALENT: ("equivalent", Verdict.EQUIVALENT),
}
SIMULATED = 10_000  # comparisons that an interval's ends come from
FARTHEST, HALVINGS = 40.0, 25  # standard errors that an end may lie away; steps towards it


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
