"""What an analysis is made of: settings under seeds that all of them finished, and their levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.store import APART, COMPLETE, Configuration, Factor, level_id
from reports import tables
from reports.stats import Array
from reports.study import Study

Codes = npt.NDArray[np.int64]
Found = TypeVar("Found")


class Unavailable(Exception):
    """Something cannot be computed of a study; its text says why, and ends a sentence."""


def available(compute: Callable[[Study, str], Found], study: Study, metric: str) -> Found | None:
    """What can be computed of a study and a test metric of it; None of what is Unavailable."""
    try:
        return compute(study, metric)
    except Unavailable:
        return None


@dataclass(frozen=True)
class Varied:
    """A factor with at least two levels among S settings.

    levels: in the study's order.
    codes: (S,) the place of each setting's level; -1: the factor is not active in it.
    """

    factor: Factor
    levels: tuple[Any, ...]
    codes: Codes

    def among(self, kept: Codes) -> "Varied":
        """The same of some of the settings, by their places, with the levels that these have."""
        codes = self.codes[kept]
        used = np.unique(codes[codes >= 0])
        levels = tuple(self.levels[code] for code in used)
        return Varied(self.factor, levels, np.where(codes < 0, -1, np.searchsorted(used, codes)))


@dataclass(frozen=True, eq=False)
class Layout:
    """A study's S finished settings under the same R seeds, and the factors that differ in them.

    values: of the metric, (S, R).
    left_out: in words, the finished trials that are not in it; "" where all are.
    lacking: Number of the study's configurations that are not in it.
    """

    study: Study
    metric: str
    settings: tuple[Configuration, ...]
    seeds: tuple[int, ...]
    values: Array
    left_out: str
    lacking: int
    factors: tuple[Varied, ...]

    @property
    def sampled(self) -> bool:
        """Whether the settings were drawn, not a grid."""
        return self.study.sampler != "grid"


def layout(study: Study, metric: str) -> Layout:
    """The largest part of a study in which every setting finished under every seed, or nearly it.

    While a trial is missing, whichever lacks more is left out: the setting that lacks the largest
    share of its seeds, or the seed that lacks the largest share of its settings. Trials that were
    stopped early do not count as finished.

    Args:
        study: as it was read (see subject).
        metric: of its test metrics.

    Raises:
        Unavailable: nothing has finished, or no factor varies in it.
    """
    part = subject(study, metric)
    own = {setting.key: setting for setting in part.own}
    column = f"test/{metric}"
    found = tables.own_rows(part).filter(state=COMPLETE).drop_nulls(column)
    if found.is_empty():
        raise Unavailable("no setting has finished")
    seeds = sorted(found["seed"].unique().to_list())
    wide = found.pivot("seed", index="setting_key", values=column)
    keys, values = wide["setting_key"].to_list(), wide.select(map(str, seeds)).to_numpy()
    if np.nanmax(np.abs(values)) > tables.LARGEST:
        raise Unavailable(f"its numbers are no metric's: one is beyond {tables.LARGEST:g}")
    rows, used = _complete(~np.isnan(values))
    kept = values[np.ix_(rows, used)]
    settings = tuple(own[keys[i]] for i in rows)
    left_out = _left_out(len(own), len(rows), len(found), kept.size)
    factors = tuple(_varied(part, settings))
    if not factors:
        raise Unavailable("no factor varies among finished settings")
    under = tuple(seeds[i] for i in used)
    lacking = len(own) - len(rows)
    return Layout(part, metric, settings, under, kept, left_out, lacking, factors)


def subject(study: Study, metric: str) -> Study:
    """The study that is analysed: one over datasets by its averages, any other as it is.

    The datasets' own differences would outweigh every factor's. So would those of other factors
    whose levels are tested on classes of their own, over which there is no average.

    Args:
        study: as it was read.
        metric: of its test metrics.

    Raises:
        Unavailable: there is no such study.
    """
    if f"test/{metric}" not in study.rows.columns:
        raise Unavailable(f"nothing measured {metric}")
    part = tables.averaged(study)
    if part is None:
        raise Unavailable("no method is wanted on every dataset")
    apart = [factor.key for factor in part.factors if factor.key in APART]
    if apart:
        raise Unavailable(f"the levels of {apart[0]} are tested on classes of their own")
    return part


def incomparable(study: Study) -> str:
    """Why its settings' selection scores must not be held against each other; "": they may.

    Args:
        study: whose settings these are, without the reference arms.
    """
    rule = tables.selection_rules(study)
    if tables.on_test(rule):
        return "selection looks at test pictures in some of its settings"
    return "its settings are selected on different pictures" if "+" in rule else ""


def _varied(study: Study, settings: Sequence[Configuration]) -> list[Varied]:
    """The factors that differ between some settings of the study, in its order."""
    found = []
    for factor in study.factors:
        key, levels = factor.key, tables.ordered_levels(study, factor)
        place = {level_id(level): code for code, level in enumerate(levels)}
        own = [place[level_id(s.assignment[key])] if key in s.assignment else -1 for s in settings]
        every = Varied(factor, tuple(levels), np.array(own, dtype=np.int64))
        found.append(every.among(np.arange(len(settings))))
    return [factor for factor in found if len(factor.levels) >= 2]


def _complete(known: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """The rows and columns of a matrix that are left when its holes are gone (see above)."""
    rows, columns = list(range(known.shape[0])), list(range(known.shape[1]))
    while not (part := known[np.ix_(rows, columns)]).all():
        by_row, by_column = 1 - part.mean(axis=1), 1 - part.mean(axis=0)
        if by_row.max() >= by_column.max():
            del rows[int(by_row.argmax())]
        else:
            del columns[int(by_column.argmax())]
    return rows, columns


def _left_out(wanted: int, kept: int, finished: int, used: int) -> str:
    """Words about what is missing from a layout."""
    lines = []
    if kept < wanted:
        lines.append(f"{wanted - kept} of {wanted} settings did not finish under these seeds")
    if used < finished:
        lines.append(f"{finished - used} of {finished} finished trials are not used")
    return "; ".join(lines)
