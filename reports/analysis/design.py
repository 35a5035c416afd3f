"""Input of the analyses: configurations that finished under the same seeds, with their levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.store import COMPLETE, SEPARATE_FACTORS, ConfigurationRecord, FactorRecord, level_id
from reports import tables
from reports.stats import Array
from reports.study import Study

Codes = npt.NDArray[np.int64]
Found = TypeVar("Found")


class Unavailable(Exception):
    """Error: an analysis is impossible for a study. Its text is the reason and ends a sentence."""


def available(compute: Callable[[Study, str], Found], study: Study, metric: str) -> Found | None:
    """Return the result of an analysis; None if it is unavailable.

    Args:
        compute: Function of a study and a test metric that may raise Unavailable.
        study: The study.
        metric: Name of the test metric.
    """
    try:
        return compute(study, metric)
    except Unavailable:
        return None


@dataclass(frozen=True)
class Varied:
    """A factor with at least two levels among S configurations.

    Attributes:
        factor: The factor.
        levels: Its levels in the study's order.
        codes: Position of each configuration's level, (S,); -1 if the factor is not active in it.
    """

    factor: FactorRecord
    levels: tuple[Any, ...]
    codes: Codes

    def among(self, kept: Codes) -> "Varied":
        """Return the factor among some of the configurations, with the levels that these have.

        Args:
            kept: Positions of the configurations.
        """
        codes = self.codes[kept]
        used = np.unique(codes[codes >= 0])
        levels = tuple(self.levels[code] for code in used)
        return Varied(self.factor, levels, np.where(codes < 0, -1, np.searchsorted(used, codes)))


@dataclass(frozen=True, eq=False)
class Design:
    """A study's S finished configurations under the same R seeds, with the factors that vary.

    Attributes:
        study: The study.
        metric: Name of the test metric.
        configurations: The configurations.
        seeds: The seeds.
        values: The metric, (S, R).
        left_out: Description of the configurations and finished trials that are left out; "" if
            there are none.
        lacking: Number of the study's configurations that are left out.
        factors: The factors that vary.
    """

    study: Study
    metric: str
    configurations: tuple[ConfigurationRecord, ...]
    seeds: tuple[int, ...]
    values: Array
    left_out: str
    lacking: int
    factors: tuple[Varied, ...]

    @property
    def sampled(self) -> bool:
        """Whether the configurations were sampled, not a grid."""
        return self.study.sampler != "grid"


def layout(study: Study, metric: str) -> Design:
    """Return a large part of a study in which every configuration finished under every seed.

    While a trial is missing, a configuration or a seed is left out: the configuration that lacks
    the largest share of its seeds, or the seed that lacks the largest share of its configurations,
    whichever share is larger. Trials that were stopped early do not count as finished.

    Args:
        study: Study read from the store (see subject).
        metric: Name of a test metric.

    Raises:
        Unavailable: If nothing has finished, or if no factor varies.
    """
    part = subject(study, metric)
    by_key = {configuration.key: configuration for configuration in part.non_controls}
    column = f"test/{metric}"
    finished = tables.configuration_rows(part).filter(state=COMPLETE).drop_nulls(column)
    if finished.is_empty():
        raise Unavailable("no configuration has finished")
    seeds = sorted(finished["seed"].unique().to_list())
    wide = finished.pivot("seed", index="config_key", values=column)
    keys, values = wide["config_key"].to_list(), wide.select(map(str, seeds)).to_numpy()
    if np.nanmax(np.abs(values)) > tables.MAX_VALUE:
        raise Unavailable(f"a value of the metric exceeds {tables.MAX_VALUE:g}")
    rows, used = _drop_gaps(~np.isnan(values))
    kept = values[np.ix_(rows, used)]
    configurations = tuple(by_key[keys[i]] for i in rows)
    left_out = _left_out_text(len(by_key), len(rows), len(finished), kept.size)
    factors = tuple(_varied_factors(part, configurations))
    if not factors:
        raise Unavailable("no factor varies among finished configurations")
    under = tuple(seeds[i] for i in used)
    lacking = len(by_key) - len(rows)
    return Design(part, metric, configurations, under, kept, left_out, lacking, factors)


def subject(study: Study, metric: str) -> Study:
    """Return the study to analyze: for a study over datasets its averages, else the study itself.

    Differences between datasets would outweigh those of every factor. The same is true for other
    factors whose levels are tested on different classes, over which there is no average.

    Args:
        study: Study read from the store.
        metric: Name of a test metric.

    Raises:
        Unavailable: The metric was not measured, or the levels cannot be averaged.
    """
    if f"test/{metric}" not in study.rows.columns:
        raise Unavailable(f"nothing measured {metric}")
    part = tables.average_over_datasets(study)
    if part is None:
        raise Unavailable("no method is planned on every dataset")
    apart = [factor.key for factor in part.factors if factor.key in SEPARATE_FACTORS]
    if apart:
        raise Unavailable(f"the levels of {apart[0]} are tested on different classes")
    return part


def incomparable(study: Study) -> str:
    """Return the reason why configurations' selection scores cannot be compared; "" if they can.

    Args:
        study: Study of the configurations; its controls are ignored.
    """
    rule = tables.selection_rules(study)
    if tables.on_test(rule):
        return "selection looks at test images in some of its configurations"
    return "its configurations are selected on different images" if "+" in rule else ""


def _varied_factors(study: Study, configurations: Sequence[ConfigurationRecord]) -> list[Varied]:
    """Return the factors that vary between some configurations of the study, in its order."""
    factors = []
    for factor in study.factors:
        key, levels = factor.key, tables.ordered_levels(study, factor)
        place = {level_id(level): code for code, level in enumerate(levels)}
        codes = [
            place[level_id(s.assignment[key])] if key in s.assignment else -1
            for s in configurations
        ]
        every = Varied(factor, tuple(levels), np.array(codes, dtype=np.int64))
        factors.append(every.among(np.arange(len(configurations))))
    return [factor for factor in factors if len(factor.levels) >= 2]


def _drop_gaps(known: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return the rows and columns of a matrix that remain without its gaps (see layout)."""
    rows, columns = list(range(known.shape[0])), list(range(known.shape[1]))
    while not (part := known[np.ix_(rows, columns)]).all():
        by_row, by_column = 1 - part.mean(axis=1), 1 - part.mean(axis=0)
        if by_row.max() >= by_column.max():
            del rows[int(by_row.argmax())]
        else:
            del columns[int(by_column.argmax())]
    return rows, columns


def _left_out_text(wanted: int, kept: int, finished: int, used: int) -> str:
    """Return a description of the configurations and finished trials that a layout leaves out."""
    lines = []
    if kept < wanted:
        lines.append(f"{wanted - kept} of {wanted} configurations did not finish under these seeds")
    if used < finished:
        lines.append(f"{finished - used} of {finished} finished results are not used")
    return "; ".join(lines)
