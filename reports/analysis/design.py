"""Input of the analyses: configurations that finished under the same seeds, with their levels.

In shapes, S is the number of configurations and R the number of seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.store import (
    COMPLETE,
    SEPARATE_FACTORS,
    ConfigurationRecord,
    FactorRecord,
    make_level_id,
)
from reports import tables
from reports.stats import Array
from reports.study import Study

Codes = npt.NDArray[np.int64]
Result = TypeVar("Result")


class Unavailable(Exception):
    """Raised if an analysis is impossible for a study.

    The message is a clause to put after a colon: "no configuration has finished".
    """


def compute_if_available(
    compute: Callable[[Study, str], Result], study: Study, metric: str
) -> Result | None:
    """Return the result of an analysis; None if it raises Unavailable.

    Args:
        compute: Analysis of a study and a test metric.
        study: The study.
        metric: Name of the test metric.
    """
    try:
        return compute(study, metric)
    except Unavailable:
        return None


@dataclass(frozen=True)
class VariedFactor:
    """A factor with its level in each of S configurations.

    Attributes:
        record: The factor as the study declares it.
        levels: The levels that occur in these configurations, in the study's order.
        codes: Position of each configuration's level in `levels`, (S,). -1 for a configuration in
            which the factor is inactive.
    """

    record: FactorRecord
    levels: tuple[Any, ...]
    codes: Codes

    @property
    def key(self) -> str:
        """Dotted name of the factor."""
        return self.record.key

    def restrict_to(self, positions: Codes) -> "VariedFactor":
        """Return the same factor for some of the configurations, without levels that do not occur.

        Args:
            positions: Positions of these configurations, in the new order.
        """
        codes = self.codes[positions]
        remaining_codes = np.unique(codes[codes >= 0])
        levels = tuple(self.levels[code] for code in remaining_codes)
        return VariedFactor(
            self.record, levels, np.where(codes < 0, -1, np.searchsorted(remaining_codes, codes))
        )


@dataclass(frozen=True, eq=False)
class Design:
    """S configurations of a study that all finished under the same R seeds.

    Attributes:
        study: The study.
        metric: Name of the test metric.
        configurations: The configurations.
        seeds: The seeds.
        values: The metric of each configuration under each seed, (S, R).
        gaps: Text that counts the configurations and finished results of the study that the design
            leaves out. "" if it leaves out nothing.
        n_left_out: Number of configurations of the study that the design leaves out.
        factors: The factors that vary among the configurations, in the study's order.
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
        """Whether a sampler proposed the configurations. If not, they are from a grid."""
        return self.study.sampler != "grid"


def make_design(study: Study, metric: str) -> Design:
    """Return configurations and seeds of a study between which no result is missing.

    While any result is missing, the configuration or seed that lacks the largest share of its
    results is left out. In a tie, it is the configuration. Pruned trials count as missing.

    Args:
        study: Study read from the store. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Raises:
        Unavailable: If the study cannot be analyzed (see select_analyzed_study), if nothing has
            finished, if the magnitude of a result exceeds tables.MAX_MAGNITUDE, or if no factor
            varies.
    """
    analyzed_study = select_analyzed_study(study, metric)
    by_key = {configuration.key: configuration for configuration in analyzed_study.non_controls}
    column = f"test/{metric}"
    finished_rows = (
        tables.select_configuration_rows(analyzed_study).filter(state=COMPLETE).drop_nulls(column)
    )
    if finished_rows.is_empty():
        raise Unavailable("no configuration has finished")
    seeds = sorted(finished_rows["seed"].unique().to_list())
    table = finished_rows.pivot("seed", index="config_key", values=column)
    keys, values = table["config_key"].to_list(), table.select(map(str, seeds)).to_numpy()
    if np.nanmax(np.abs(values)) > tables.MAX_MAGNITUDE:
        raise Unavailable(f"a value of the metric exceeds {tables.MAX_MAGNITUDE:g}")
    row_indexes, seed_indexes = _find_complete_block(~np.isnan(values))
    complete_values = values[np.ix_(row_indexes, seed_indexes)]
    configurations = tuple(by_key[keys[i]] for i in row_indexes)
    gaps = _describe_gaps(len(by_key), len(row_indexes), len(finished_rows), complete_values.size)
    factors = tuple(_find_varied_factors(analyzed_study, configurations))
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

    Datasets differ more from each other than the levels of other factors, so averages over datasets
    are analyzed. The levels of SEPARATE_FACTORS are tested on different classes and differ as much,
    but have no averages: a study with such a factor cannot be analyzed.

    Args:
        study: Study read from the store.
        metric: Name of a test metric.

    Raises:
        Unavailable: If the metric was not measured, if no method is planned on every dataset, or if
            the levels of a factor are tested on different classes.
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
    """Return the reason why selection scores cannot be compared between configurations.

    Args:
        study: The study. Its controls are ignored.

    Returns:
        A clause without a final period. "" if the scores can be compared.
    """
    rule = tables.get_selection_rules(study)
    if tables.uses_test_images(rule):
        return "selection looks at test images in some of its configurations"
    return "its configurations are selected on different images" if "+" in rule else ""


def _find_varied_factors(
    study: Study, configurations: Sequence[ConfigurationRecord]
) -> list[VariedFactor]:
    """Return the factors with at least two levels among some configurations, in study order."""
    factors = []
    for factor in study.factors:
        key, levels = factor.key, tables.sort_levels(study, factor)
        codes_by_level = {make_level_id(level): code for code, level in enumerate(levels)}
        codes = [
            codes_by_level[make_level_id(configuration.assignment[key])]
            if key in configuration.assignment
            else -1
            for configuration in configurations
        ]
        factor_with_all_levels = VariedFactor(
            factor, tuple(levels), np.array(codes, dtype=np.int64)
        )
        factors.append(factor_with_all_levels.restrict_to(np.arange(len(configurations))))
    return [factor for factor in factors if len(factor.levels) >= 2]


def _find_complete_block(has_value: npt.NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return the positions of rows and columns between which no value is missing.

    Rows and columns are left out as in make_design.
    """
    rows, columns = list(range(has_value.shape[0])), list(range(has_value.shape[1]))
    while not (block := has_value[np.ix_(rows, columns)]).all():
        row_gaps, column_gaps = 1 - block.mean(axis=1), 1 - block.mean(axis=0)
        if row_gaps.max() >= column_gaps.max():
            del rows[int(row_gaps.argmax())]
        else:
            del columns[int(column_gaps.argmax())]
    return rows, columns


def _describe_gaps(n_configurations: int, n_kept: int, n_results: int, n_used: int) -> str:
    """Describe what a design leaves out of a study (see Design.gaps).

    Args:
        n_configurations: Number of the study's configurations.
        n_kept: Number of configurations in the design.
        n_results: Number of the study's finished results.
        n_used: Number of results in the design.
    """
    clauses = []
    if n_kept < n_configurations:
        left_out = f"{n_configurations - n_kept} of {n_configurations} configurations"
        clauses.append(f"{left_out} did not finish under these seeds")
    if n_used < n_results:
        clauses.append(f"{n_results - n_used} of {n_results} finished results are not used")
    return "; ".join(clauses)
