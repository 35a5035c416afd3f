"""The numbers of a factor's chart: seeds, means with intervals, reference arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from reports.contract import ARMS
from reports.read import Factor, Study
from reports.stats import Estimate
from reports.tables import (
    Group,
    arm_groups,
    by_seed,
    interval_of,
    level_groups,
    level_text,
    matched,
)

# Arms further from the dots than this many of their ranges are told in the legend alone.
_REACH = 1.0


@dataclass(frozen=True)
class Dot:
    """One seed of a level or, in a sampled study of several factors, one setting's mean.

    name: what it is of. run_id: "" where it is a mean over several runs.
    """

    level: str
    value: float
    y: float
    name: str
    run_id: str


@dataclass(frozen=True)
class Mean:
    """A level's mean over seeds."""

    level: str
    estimate: Estimate


@dataclass(frozen=True)
class Arm:
    """A reference arm; near: whether its line is drawn; decimals: of its mean in words."""

    key: str
    estimate: Estimate
    near: bool
    decimals: int = 1

    @property
    def label(self) -> str:
        """The arm with its mean, and an arrow where it lies beyond the axis."""
        beyond = "" if self.near else " (beyond)"
        return f"{ARMS[self.key][0]} {self.estimate.mean:.{self.decimals}f}{beyond}"


def dots_of(study: Study, factor: Factor, metric: str, *, settings: bool) -> list[Dot]:
    """The dots of a factor's levels.

    Args:
        study: whose finished rows they are.
        factor: with levels in the study.
        metric: name of the test metric.
        settings: a dot a setting, not a dot a seed.
    """
    found = []
    for group in level_groups(study, factor):
        level = level_text(group.value)
        number = float(group.value) if isinstance(group.value, int | float) else 0.0
        if settings:
            for part in group.done.partition_by("setting_key", maintain_order=True):
                seeds = by_seed(matched(part, f"test/{metric}", {}))
                if seeds:
                    mean = sum(seeds.values()) / len(seeds)
                    found.append(
                        Dot(level, number, mean, f"mean of {len(seeds)} seeds", _run(part))
                    )
        else:
            for seed, y in sorted(group.seeds(f"test/{metric}").items()):
                own = group.done.filter(group.done["seed"] == seed)
                found.append(Dot(level, number, y, f"seed {seed}", _run(own)))
    return found


def _run(rows: pl.DataFrame) -> str:
    """The only run behind some rows, "" of several."""
    runs = rows["run_id"].drop_nulls().unique().to_list()
    return str(runs[0]) if len(runs) == 1 else ""


def means_of(study: Study, factor: Factor, metric: str) -> list[Mean]:
    """Each level's mean with its interval, as in the factor's table."""
    found = []
    for group in level_groups(study, factor):
        values = list(group.seeds(f"test/{metric}").values())
        if values:
            found.append(Mean(level_text(group.value), interval_of(metric, values)))
    return found


def arms_of(study: Study, metric: str, limits: tuple[float, float], decimals: int = 1) -> list[Arm]:
    """The reference arms that finished, highest first.

    Args:
        study: with its arms.
        metric: name of the test metric.
        limits: the lowest and the highest value that is drawn of the levels.
        decimals: of the arms' means in words.
    """
    low, high = limits
    reach = _REACH * (high - low)
    found = [_arm(group, metric) for group in arm_groups(study)]
    arms = [
        Arm(key, estimate, low - reach <= estimate.mean <= high + reach, decimals)
        for key, estimate in (one for one in found if one)
    ]
    return sorted(arms, key=lambda arm: -arm.estimate.mean)


def _arm(group: Group, metric: str) -> tuple[str, Estimate] | None:
    values = list(group.seeds(f"test/{metric}").values())
    return (group.arm, interval_of(metric, values)) if values else None


def limits_of(
    dots: Sequence[Dot], means: Sequence[Mean], *, percent: bool = True
) -> tuple[float, float]:
    """The range of dots and intervals, never of zero height: half a point, or a part of the values.

    Args:
        dots, means: that are drawn.
        percent: whether they are percentages.
    """
    values = [dot.y for dot in dots]
    for e in (mean.estimate for mean in means):
        # An interval of two seeds may be vast; the dots then decide, and it is cut off.
        if e.low is not None and e.high is not None and e.n > 2:
            values += [e.low, e.high]
    low, high = min(values), max(values)
    least = 0.5 if percent else 0.02 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > least else (low - least, high + least)
