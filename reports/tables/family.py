"""A family: the groups of one table, and their tests against a baseline.

In statistics, a family is a set of tests whose p-values are corrected together. Here, Holm's method
corrects them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from harness.store import COMPETING, SEPARATE_FACTORS
from reports import stats
from reports.cells import Column
from reports.stats import Compared, compute_scale, is_rounding
from reports.study import Study, get_metric_heading
from reports.tables.controls import find_controls_by_configuration, get_factors_of_control
from reports.tables.group import Group, PairKey, average_strata_by_seed
from reports.tables.metric import get_decimals, get_smallest_effect
from reports.tables.over_classes import (
    MAX_RUNS,
    Draws,
    compute_difference_over_classes,
    is_computed_from_predictions,
    resample_group,
)
from reports.tables.over_datasets import list_datasets

Kind = Literal["levels", "effects", "configurations", "methods"]  # see Table.kind

MAX_SAMPLED = 10  # the most configurations of a sampled study that a page shows
MAX_GRID = 1_000  # the most configurations of a grid that a page shows

# (values of a group by seed, values of the baseline by seed)
ValuesBySeed = tuple[Mapping[int, float], Mapping[int, float]]


def subtract_by_seed(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> dict[int, float]:
    """Return value - baseline for each seed that both mappings have."""
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


@dataclass(frozen=True, eq=False)
class Family:
    """The groups of one table, and their comparisons.

    Attributes:
        study: Study of the groups.
        metric: Test metric that is compared.
        kind: Kind of the groups that are not controls; see Table.kind.
        name: Name of the table: the key of a factor, "configurations" or "datasets".
        labels: Columns that name a group.
        groups: The groups, including controls.
        baseline: Group with which the others are compared. None if there are no comparisons.
        pairs: Compared group -> (group, baseline) as they are compared. If the groups are methods
            over datasets, both are restricted to the datasets on which both have finished rows. If
            a control has the same runs as a configuration, only the configuration is a key, so that
            Holm's correction counts their test once.
        strata: Stratum by config_key (see PairKey). Groups are compared only within strata. {} if
            there is only one stratum.
    """

    study: Study
    metric: str
    kind: Kind
    name: str
    labels: Sequence[Column]
    groups: Sequence[Group]
    baseline: Group | None
    pairs: Mapping[Group, tuple[Group, Group]]
    strata: Mapping[str, str] = field(default_factory=dict)
    _draws: dict[Group, Draws] = field(default_factory=dict, init=False, repr=False)  # a cache

    @property
    def heading(self) -> str:
        """Column heading of the metric."""
        return get_metric_heading(self.study.protocol, self.metric)

    @property
    def is_comparable(self) -> bool:
        """Whether differences between groups are meaningful.

        They are not if the levels are tested on different classes, or if there is only one method.
        """
        if self.kind == "methods":
            return sum(not group.control for group in self.groups) > 1
        return self.name not in SEPARATE_FACTORS

    @cached_property
    def controls(self) -> dict[str, Mapping[str, Group]]:
        """Competing control -> config_key -> the control at the levels of this configuration.

        A control that no factor of the table affects is left out: it is the same for all
        configurations, and the table already has a row for it.
        """
        by_control: dict[str, Mapping[str, Group]] = {}
        for control in COMPETING:
            factors = get_factors_of_control(self.study, control)
            if self.name in factors or (self.kind == "configurations" and factors):
                by_control[control] = find_controls_by_configuration(self.study, control)
        return {control: controls for control, controls in by_control.items() if controls}

    @property
    def max_rows(self) -> int | None:
        """The most configurations that a page shows, best first; None for other kinds of groups."""
        if self.kind != "configurations":
            return None
        return MAX_GRID if self.study.sampler == "grid" else MAX_SAMPLED

    @property
    def seconds_per_extra_seed(self) -> float:
        """Estimated seconds to run all configurations of the table under one more seed.

        Each configuration takes the mean time per seed of its group, or 0 s if the group has no
        finished rows. For averages over datasets, the sum is multiplied by the number of datasets.
        """
        # a control that is the same as a configuration has the same runs, which count only once
        distinct_groups = {group.config_keys: group for group in reversed(self.groups)}.values()
        seconds = sum(
            (group.mean("seconds") or 0.0) * len(group.config_keys) for group in distinct_groups
        )
        return seconds * max(1, len(self.study.pooled_datasets))

    @property
    def differences_by_seed(self) -> list[dict[int, float]]:
        """Seed -> difference from the baseline, for each group that shares a seed with it."""
        return [subtract_by_seed(*values) for values in self._values_by_seed.values()]

    @cached_property
    def comparisons(self) -> dict[Group, Compared]:
        """Group -> its comparison with the baseline (paired t-test).

        Groups that share no seed with the baseline are left out.
        """
        untested = {
            group: comparison
            for group, values in self._values_by_seed.items()
            if (comparison := stats.compare_paired(*values))
        }
        tested = stats.add_verdicts(
            [*untested.values()], get_smallest_effect(self.study, self.metric)
        )
        decimals = get_decimals(self.study, self.metric)
        comparisons = {
            group: self._add_class_interval(
                dataclasses.replace(comparison, decimals=decimals), *self.pairs[group]
            )
            for group, comparison in zip(untested, tested, strict=True)
        }
        # a control that is the same as a configuration gets the configuration's comparison
        by_configurations = {
            group.config_keys: comparison for group, comparison in comparisons.items()
        }
        return comparisons | {
            group: by_configurations[group.config_keys]
            for group in self.groups
            if group.control and group not in comparisons and group.config_keys in by_configurations
        }

    @cached_property
    def _values_by_seed(self) -> dict[Group, ValuesBySeed]:
        """Compared group -> (its values of the metric by seed, those of the baseline).

        A seed's value is a mean over the strata in which both have a result under the seed. Groups
        without such a stratum are left out.
        """
        values: dict[Group, ValuesBySeed] = {}
        for group, pair in self.pairs.items():
            results, baseline_results = map(self._get_results, pair)
            if results.keys() & baseline_results.keys():
                values[group] = (
                    average_strata_by_seed(results, baseline_results),
                    average_strata_by_seed(baseline_results, results),
                )
        return values

    def _get_results(self, group: Group) -> dict[PairKey, list[float]]:
        """Return the values of the metric in a group's finished rows, by (stratum, seed)."""
        return group.results(f"test/{self.metric}", self.strata)

    def _add_class_interval(self, comparison: Compared, group: Group, baseline: Group) -> Compared:
        """Return a comparison with its interval over classes and its number of datasets.

        If all results are the same as the baseline's, the comparison is marked as unchanged and
        loses its verdict.
        """
        mean = comparison.difference.mean
        draws, baseline_draws = self._resample(group), self._resample(baseline)
        # all results are compared only if the means are equal, because it takes longer
        is_unchanged = mean == 0 and self._is_unchanged(group, baseline)
        n_datasets, total = len(group.finished_datasets), len(self.datasets)
        classes = compute_difference_over_classes(draws, baseline_draws, mean)
        return dataclasses.replace(
            comparison,
            classes=classes,
            n_classes=min(draw.n_classes for draw in draws.values()) if classes else 0,
            is_unchanged=is_unchanged,
            verdict=None if is_unchanged else comparison.verdict,
            datasets=(n_datasets, total) if n_datasets < total else None,
        )

    @cached_property
    def datasets(self) -> Sequence[str]:
        """Datasets of the study, over which methods are averaged; () for other kinds."""
        return list_datasets(self.study) if self.kind == "methods" else ()

    def _is_unchanged(self, group: Group, baseline: Group) -> bool:
        """Return True if all compared results equal the baseline's up to rounding."""
        results, baseline_results = (
            self._get_results(side.trials)  # the rows behind averages over datasets
            for side in (group, baseline)
        )
        compared_values = [
            [*results[key], *baseline_results[key]]
            for key in results.keys() & baseline_results.keys()
        ]
        ranges_are_rounding = [
            is_rounding(max(values) - min(values), compute_scale(values))
            for values in compared_values
        ]
        return bool(ranges_are_rounding) and all(ranges_are_rounding)

    @cached_property
    def _loads_predictions(self) -> bool:
        """Whether the numbers of correct predictions per class are loaded from the runs' files.

        They are loaded for methods over datasets, and for other kinds if there are at most MAX_RUNS
        runs.
        """
        runs = {run for group in self.groups for run in group.trials.column("run_id")}
        return self.kind == "methods" or len(runs) <= MAX_RUNS

    def _resample(self, group: Group) -> Draws:
        """Return a group's metric under each bootstrap sample of classes.

        {} if correct predictions are not loaded; see _loads_predictions.
        """
        if not self._loads_predictions:
            return {}
        if group not in self._draws:
            self._draws[group] = resample_group(self.study, self.metric, group, self.strata)
        return self._draws[group]

    def count_runs_without_predictions(self) -> tuple[int, int]:
        """Return how many finished runs lack correct predictions, and how many runs are finished.

        Both numbers are 0 in three cases: all finished runs lack them, the metric is not computed
        from them, or they are not loaded (see _loads_predictions).
        """
        if not self._loads_predictions or not is_computed_from_predictions(self.study, self.metric):
            return 0, 0
        finished_runs = {
            run
            for group in self.groups
            for run_ids in group.trials.results("run_id", self.strata).values()
            for run in run_ids
        }
        n_missing = sum(
            self.study.correct_predictions.load(run).is_empty() for run in finished_runs
        )
        return (n_missing, len(finished_runs)) if n_missing < len(finished_runs) else (0, 0)
