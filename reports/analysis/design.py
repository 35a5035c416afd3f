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
Result = TypeVar("Result")


class Unavailable(Exception):
    """Error of an analysis that is impossible for a study.

    Its text is the reason as a clause that follows a colon: "no configuration has finished".
    """


def compute_if_available(
    compute: Callable[[Study, str], Result], study: Study, metric: str
) -> Result | None:
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
class VariedFactor:
    """A factor with at least two levels among S configurations.

    Attributes:
        record: The factor as the study declares it.
        levels: Its levels in the study's order.
        codes: Position of each configuration's level, (S,); -1 if the factor is not active in it.
    """

    record: FactorRecord
    levels: tuple[Any, ...]
    codes: Codes

    @property
    def key(self) -> str:
        """Dotted name of the key that varies."""
        return self.record.key

    def restrict_to(self, positions: Codes) -> "VariedFactor":
        """Return the factor in some of the configurations, with only the levels that occur there.

        Args:
            positions: Positions of the configurations.
        """
        codes = self.codes[positions]
        remaining_codes = np.unique(codes[codes >= 0])
        levels = tuple(self.levels[code] for code in remaining_codes)
        return VariedFactor(
            self.record, levels, np.where(codes < 0, -1, np.searchsorted(remaining_codes, codes))
        )


@dataclass(frozen=True, eq=False)
class Design:
    """A study's S finished configurations under the same R seeds, with the factors that vary.

    Attributes:
        study: The study.
        metric: Name of the test metric.
        configurations: The configurations.
        seeds: The seeds.
        values: The metric, (S, R).
        gaps: Description of the configurations and finished results that are left out; "" if there
            are none.
        n_left_out: Number of the study's configurations that are left out.
        factors: The factors that vary.
    """

    study: Study
    metric: str
    configurations: tuple[ConfigurationRecord, ...]
    seeds: tuple[int, ...]
    values: Array
    gaps: str
    n_left_out: int
    factors: tuple[VariedFactor, ...]

    @property
    def is_sampled(self) -> bool:
        """Whether the configurations were sampled, as opposed to a grid."""
        return self.study.sampler != "grid"


def make_design(study: Study, metric: str) -> Design:
    """Return configurations and seeds of a study such that all pairs of them finished.

    As long as a result is missing, either the configuration that lacks the largest share of the
    seeds is left out, or the seed that lacks the largest share of the configurations, whichever
    share is larger. Trials that were stopped early do not count as finished.

    Args:
        study: Study read from the store (see select_analyzed_study).
        metric: Name of a test metric.

    Raises:
        Unavailable: If nothing has finished, if no factor varies, if a value is too large, or if
            there is no study to analyze (see select_analyzed_study).
    """
    analyzed_study = select_analyzed_study(study, metric)
    by_key = {configuration.key: configuration for configuration in analyzed_study.non_controls}
    column = f"test/{metric}"
    finished_rows = (
        tables.configuration_rows(analyzed_study).filter(state=COMPLETE).drop_nulls(column)
    )
    if finished_rows.is_empty():
        raise Unavailable("no configuration has finished")
    seeds = sorted(finished_rows["seed"].unique().to_list())
    table = finished_rows.pivot("seed", index="config_key", values=column)
    keys, values = table["config_key"].to_list(), table.select(map(str, seeds)).to_numpy()
    if np.nanmax(np.abs(values)) > tables.MAX_VALUE:
        raise Unavailable(f"a value of the metric exceeds {tables.MAX_VALUE:g}")
    row_indexes, seed_indexes = _drop_gaps(~np.isnan(values))
    complete_values = values[np.ix_(row_indexes, seed_indexes)]
    configurations = tuple(by_key[keys[i]] for i in row_indexes)
    gaps = _describe_gaps(len(by_key), len(row_indexes), len(finished_rows), complete_values.size)
    factors = tuple(_varied_factors(analyzed_study, configurations))
    if not factors:
        raise Unavailable("no factor varies among finished configurations")
    common_seeds = tuple(seeds[i] for i in seed_indexes)
    n_left_out = len(by_key) - len(row_indexes)
    return Design(
        analyzed_study,
        metric,
        configurations,
        common_seeds,
        complete_values,
        gaps,
        n_left_out,
        factors,
    )


def select_analyzed_study(study: Study, metric: str) -> Study:
    """Return the study to analyze: for a study over datasets its averages, else the study itself.

    Differences between datasets would outweigh those of every factor. So would differences between
    the levels of other factors that are tested on different classes (SEPARATE_FACTORS). For these
    there is no average.

    Args:
        study: Study read from the store.
        metric: Name of a test metric.

    Raises:
        Unavailable: If the metric was not measured, if no method is planned on every dataset, or if
            a factor's levels are tested on different classes.
    """
    if f"test/{metric}" not in study.rows.columns:
        raise Unavailable(f"nothing measured {metric}")
    averaged_study = tables.average_over_datasets(study)
    if averaged_study is None:
        raise Unavailable("no method is planned on every dataset")
    separate_factors = [
        factor.key for factor in averaged_study.factors if factor.key in SEPARATE_FACTORS
    ]
    if separate_factors:
        raise Unavailable(f"the levels of {separate_factors[0]} are tested on different classes")
    return averaged_study


def explain_incomparability(study: Study) -> str:
    """Return the reason why configurations' selection scores cannot be compared; "" if they can.

    Args:
        study: The study. Its controls are ignored.
    """
    rule = tables.selection_rules(study)
    if tables.uses_test_images(rule):
        return "selection looks at test images in some of its configurations"
    return "its configurations are selected on different images" if "+" in rule else ""


def _varied_factors(
    study: Study, configurations: Sequence[ConfigurationRecord]
) -> list[VariedFactor]:
    """Return the factors that vary among some configurations, in the study's order."""
    factors = []
    for factor in study.factors:
        key, levels = factor.key, tables.ordered_levels(study, factor)
        codes_by_level = {level_id(level): code for code, level in enumerate(levels)}
        codes = [
            codes_by_level[level_id(configuration.assignment[key])]
            if key in configuration.assignment
            else -1
            for configuration in configurations
        ]
        varied = VariedFactor(factor, tuple(levels), np.array(codes, dtype=np.int64))
        factors.append(varied.restrict_to(np.arange(len(configurations))))
    return [factor for factor in factors if len(factor.levels) >= 2]


def _drop_gaps(has_value: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return the rows and columns of a matrix that remain after dropping gaps (see make_design)."""
    rows, columns = list(range(has_value.shape[0])), list(range(has_value.shape[1]))
    while not (remainder := has_value[np.ix_(rows, columns)]).all():
        by_row, by_column = 1 - remainder.mean(axis=1), 1 - remainder.mean(axis=0)
        if by_row.max() >= by_column.max():
            del rows[int(by_row.argmax())]
        else:
            del columns[int(by_column.argmax())]
    return rows, columns


def _describe_gaps(n_configurations: int, n_kept: int, n_results: int, n_used: int) -> str:
    """Return a description of the configurations and finished results that a design leaves out."""
    clauses = []
    if n_kept < n_configurations:
        missing = f"{n_configurations - n_kept} of {n_configurations} configurations"
        clauses.append(f"{missing} did not finish under these seeds")
    if n_used < n_results:
        clauses.append(f"{n_results - n_used} of {n_results} finished results are not used")
    return "; ".join(clauses)
