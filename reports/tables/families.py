"""A study's comparisons, seed by seed: what its tables compare, before any test is made of it."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from reports.contract import COMPLETE
from reports.read import Study, heading, load_records
from reports.tables.comparison import differences, paired
from reports.tables.groups import (
    MOST_LEVELS,
    Group,
    arm_groups,
    baseline_level,
    baseline_setting,
    companions,
    factor_labels,
    level_groups,
    ordered_levels,
    setting_groups,
    short_name,
    spelled,
)
from reports.tables.metric import with_metric
from reports.tables.model import Column
from reports.tables.pooling import averaged, dataset_factor
from reports.tables.preference import without_added


@dataclass(frozen=True)
class Paired:
    """A row of a table against its baseline.

    label: the row in words. differences: seed -> of the metric, on seeds that both finished.
    """

    label: str
    differences: Mapping[int, float]

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the differences; 0 of fewer than two."""
        values = list(self.differences.values())
        return statistics.stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Family:
    """The comparisons of one table, corrected for together.

    name: of the table: a factor's key, or "settings". metric: its heading.
    seconds: of one more seed of all that the table holds, as far as it has finished.
    """

    name: str
    metric: str
    comparisons: tuple[Paired, ...]
    seconds: float


def load_families(study_name: str, tracking_uri: str) -> list[Family]:
    """The families of a study in a store, by the metric that its report is of.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: nothing of it has ended yet.
    """
    return families(load_records(study_name, tracking_uri))


def load_values(study_name: str, tracking_uri: str) -> dict[str, dict[int, float]]:
    """setting_key -> seed -> the metric that the report is of, of finished rows.

    Raises:
        ReportError, EmptyStudyError: see load_families.
    """
    study, metric = with_metric(load_records(study_name, tracking_uri), None)
    found: dict[str, dict[int, float]] = {}
    rows = study.rows.filter(pl.col("state") == COMPLETE).drop_nulls(f"test/{metric}")
    for key, seed, value in rows.select("setting_key", "seed", f"test/{metric}").iter_rows():
        found.setdefault(key, {})[seed] = value
    return found


def families(study: Study, metric: str | None = None) -> list[Family]:
    """What the tables of a study compare: its levels or settings, and each factor's main effects.

    Over datasets it is the averages; there is none where no average can be made.

    Args:
        study: of the store.
        metric: the test metric; None: the protocol's default.

    Raises:
        ReportError: the protocol has no such metric.
    """
    study, metric = with_metric(study, metric)
    over = dataset_factor(study)
    whole = averaged(study, over) if over else study
    if whole is None or not whole.factors:
        return []
    levelled = [f for f in whole.factors if len(ordered_levels(whole, f)) <= MOST_LEVELS]
    found = []
    if len(whole.factors) > 1 or not levelled:
        settings = setting_groups(whole)
        groups, labels = [*settings, *arm_groups(whole)], factor_labels(whole)
        baseline = baseline_setting(whole, settings)
        found.append(_family(whole, "settings", groups, baseline, {}, metric, labels))
    own = without_added(whole)
    for factor in levelled if whole.sampler == "grid" else []:
        levels = level_groups(own, factor)
        groups = [*levels, *(arm_groups(own) if len(own.factors) == 1 else [])]
        label = [Column("level", short_name(own, factor))]
        baseline, cells = baseline_level(factor, levels), companions(own, factor)
        found.append(_family(own, factor.key, groups, baseline, cells, metric, label))
    return [family for family in found if family is not None and family.comparisons]


def _family(
    study: Study,
    name: str,
    groups: list[Group],
    baseline: Group | None,
    cells: Mapping[str, str],
    metric: str,
    labels: list[Column],
) -> Family | None:
    if baseline is None:
        return None
    compared = [
        Paired(spelled(group, labels), differences(*paired(group, baseline, cells, metric)))
        for group in groups
        if group is not baseline
    ]
    seconds = [group.done["seconds"].mean() for group in groups]
    per_seed = sum(value for value in seconds if isinstance(value, float))
    return Family(name, heading(study.protocol, metric), tuple(compared), per_seed)
