"""What an analysis is made of: settings under seeds that all of them finished, and their levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.contract import COMPLETE
from reports.read import Factor, Setting, Study
from reports.stats import Array, is_rounding, scale_of
from reports.tables import (
    APART,
    averaged,
    chosen_by,
    dataset_factor,
    is_numeric,
    level_id,
    on_test,
    ordered_levels,
    without_added,
)

Codes = npt.NDArray[np.int64]

FLAT = "no setting differs from another under any seed"
LARGEST = 1e100  # of a number whose square can be taken


@dataclass(frozen=True)
class Unavailable:
    """Why there is no result, in words that end a sentence."""

    why: str


@dataclass(frozen=True)
class Block:
    """A number of each of S settings under each of the same R seeds.

    values: (S, R).
    left_out: in words, the finished trials that are not in it; "" where all are.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    values: Array
    left_out: str

    @property
    def flat(self) -> bool:
        """Whether no setting differs from another under any seed."""
        return is_rounding(np.ptp(self.values, axis=0), scale_of(self.values))


@dataclass(frozen=True)
class Varied:
    """A factor with at least two levels among S settings.

    levels: in the study's order.
    codes: (S,) the place of each setting's level; -1: the factor is not active in it.
    """

    factor: Factor
    levels: tuple[Any, ...]
    codes: Codes


@dataclass(frozen=True)
class Layout:
    """A study's finished settings, and the factors that differ between them."""

    study: Study
    block: Block
    factors: tuple[Varied, ...]


def layout(study: Study, metric: str) -> Layout | Unavailable:
    """What a study has finished of a test metric, with at least one factor that varies.

    Settings that --path ran are left out.

    Args:
        study: as it was read (see subject).
        metric: of its test metrics.
    """
    part = subject(without_added(study), metric)
    if isinstance(part, Unavailable):
        return part
    block = finished_block(part, f"test/{metric}")
    if isinstance(block, Unavailable):
        return block
    factors = tuple(varied(part, block.settings))
    if not factors:
        return Unavailable("no factor varies among finished settings")
    return Layout(part, block, factors)


def subject(study: Study, metric: str) -> Study | Unavailable:
    """The study that is analysed: one over datasets by its averages, any other as it is.

    The datasets' own differences would outweigh every factor's. So would those of other factors
    whose levels are tested on classes of their own, over which there is no average.

    Args:
        study: as it was read.
        metric: of its test metrics.
    """
    if f"test/{metric}" not in study.rows.columns:
        return Unavailable(f"nothing measured {metric}")
    over = dataset_factor(study)
    part = study if over is None else averaged(study, over)
    if part is None:
        return Unavailable("no method is wanted on every dataset")
    apart = [factor.key for factor in part.factors if factor.key in APART]
    if apart:
        return Unavailable(f"the levels of {apart[0]} are tested on classes of their own")
    return part


def scores_compare(study: Study) -> Unavailable | None:
    """Why its settings' selection scores must not be held against each other; None: they may.

    Args:
        study: whose settings these are, without the reference arms.
    """
    own = [setting.key for setting in study.settings if not setting.arm]
    rules = study.rows.filter(pl.col("setting_key").is_in(own))["selection"].to_list()
    rule = chosen_by(rules)
    if on_test(rule):
        return Unavailable("selection looks at test pictures in some of its settings")
    if "+" in rule:
        return Unavailable("its settings are selected on different pictures")
    return None


def finished_block(study: Study, column: str) -> Block | Unavailable:
    """The largest part of a study in which every setting finished under every seed, or nearly it.

    While a trial is missing, whichever lacks more is left out: the setting that lacks the largest
    share of its seeds, or the seed that lacks the largest share of its settings. Trials that were
    stopped early do not count as finished.

    Args:
        study: of one dataset, or averages.
        column: of its rows, numbers.
    """
    own = {s.key: s for s in study.settings if not s.arm}
    found: dict[tuple[str, int], float] = {}
    names = ("setting_key", "seed", "state", column)
    for key, seed, state, value in zip(*(study.rows[n].to_list() for n in names), strict=True):
        if key in own and state == COMPLETE and value is not None:
            found[key, seed] = value
    with_results = {key for key, _ in found}
    keys = [key for key in own if key in with_results]
    if not keys:
        return Unavailable("no setting has finished")
    seeds = sorted({seed for _, seed in found})
    values = np.array([[found.get((key, seed), np.nan) for seed in seeds] for key in keys])
    if np.nanmax(np.abs(values)) > LARGEST:
        return Unavailable(f"its numbers are no metric's: one is beyond {LARGEST:g}")
    rows, columns = _complete(~np.isnan(values))
    kept = values[np.ix_(rows, columns)]
    return Block(
        tuple(own[keys[i]] for i in rows),
        tuple(seeds[i] for i in columns),
        kept,
        _left_out(len(own), len(rows), len(found) - kept.size, kept.size),
    )


def varied(study: Study, settings: Sequence[Setting]) -> list[Varied]:
    """The factors that differ between some settings of the study, in its order."""
    found = []
    for factor in study.factors:
        ids = [level_id(s.assignment[factor.key]) if factor.key in s.assignment else None
               for s in settings]  # fmt: skip
        used = {one for one in ids if one is not None}
        levels = [v for v in ordered_levels(study, factor) if level_id(v) in used]
        place = {level_id(level): i for i, level in enumerate(levels)}
        codes = np.array([-1 if one is None else place[one] for one in ids], dtype=np.int64)
        if len(levels) >= 2:
            found.append(Varied(factor, tuple(levels), codes))
    return found


def as_numbers(levels: Sequence[Any]) -> list[float] | None:
    """Levels on their scale; None where one is a word, or no number that can be computed with."""
    sound = is_numeric(levels) and all(abs(level) <= LARGEST for level in levels)  # no NaN is
    return [float(level) for level in levels] if sound else None


def _complete(known: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """The rows and columns of a matrix that are left when its holes are gone (see above)."""
    rows, columns = list(range(known.shape[0])), list(range(known.shape[1]))
    while rows and columns:
        part = known[np.ix_(rows, columns)]
        if part.all():
            break
        by_row, by_column = 1 - part.mean(axis=1), 1 - part.mean(axis=0)
        if by_row.max() >= by_column.max():
            del rows[int(by_row.argmax())]
        else:
            del columns[int(by_column.argmax())]
    return rows, columns


def _left_out(wanted: int, kept: int, unused: int, used: int) -> str:
    """Words about what is missing from a block."""
    parts = []
    if kept < wanted:
        parts.append(f"{wanted - kept} of {wanted} settings did not finish under these seeds")
    if unused:
        parts.append(f"{unused} of {unused + used} finished trials are not used")
    return "; ".join(parts)
