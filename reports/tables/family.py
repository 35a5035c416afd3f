"""A family of comparisons: the groups of one table, whose tests are corrected together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal

from harness.store import COMPETING, SEPARATE_FACTORS
from reports import stats
from reports.cells import Column
from reports.stats import Compared, is_rounding, scale_of
from reports.study import Study, metric_heading
from reports.tables.controls import controls_by_configuration, factors_of_control
from reports.tables.group import Group, PairKey, mean_by_seed
from reports.tables.metric import decimals_of, effect_of
from reports.tables.over_classes import (
    MAX_RUNS,
    Draws,
    difference_over_classes,
    has_answers,
    resample_group,
)
from reports.tables.over_datasets import (
    list_datasets,
)

Kind = Literal["levels", "effects", "configurations", "methods"]  # see Table.kind

TOP = 10  # configurations of a sampled study on a page
MAX_CONFIGURATIONS = 1_000  # configurations of a grid on a page

# metric by seed, of a row and of its baseline
Pairs = tuple[Mapping[int, float], Mapping[int, float]]


def subtract_by_seed(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> dict[int, float]:
    """Return the difference value - baseline by seed, on common seeds."""
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


@dataclass(frozen=True, eq=False)
class Family:
    """The groups of one table, and their comparisons.

    Attributes:
        study: Study of the groups.
        metric: Metric that is compared.
        kind: Kind of the groups that are not controls.
        name: Name of the table: the key of a factor, "configurations" or "datasets".
        labels: Columns that name a group.
        groups: The groups, including controls.
        baseline: Group that others are compared with; None for no comparison.
        pairs: For each group that is compared, the group and the baseline; methods over datasets
            are restricted to the datasets that both have. If a control equals one of the
            configurations, only the configuration is listed, so that the test is counted once.
        strata: Stratum by config_key: the levels of the other factors (strata_by_configuration),
            or the dataset for methods. Groups are compared within these strata. Controls have none.
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

    @property
    def heading(self) -> str:
        """Heading of the metric."""
        return metric_heading(self.study.protocol, self.metric)

    @property
    def is_comparable(self) -> bool:
        """Whether differences between groups are meaningful.

        Several methods can be compared. Levels cannot if they are tested on different classes.
        """
        if self.kind == "methods":
            return sum(not group.control for group in self.groups) > 1
        return self.name not in SEPARATE_FACTORS

    @cached_property
    def controls(self) -> dict[str, Mapping[str, Group]]:
        """Controls by configuration key, for each control that reads a factor of the table.

        If a control reads none, all rows share the control at the baseline, which has its own row.
        """
        by_control: dict[str, Mapping[str, Group]] = {}
        for control in COMPETING:
            factors = factors_of_control(self.study, control)
            if self.name in factors or (self.kind == "configurations" and factors):
                by_control[control] = controls_by_configuration(self.study, control)
        return {control: controls for control, controls in by_control.items() if controls}

    @property
    def max_rows(self) -> int | None:
        """Number of configurations on a page, the best ones; None for all rows."""
        if self.kind != "configurations":
            return None
        return MAX_CONFIGURATIONS if self.study.sampler == "grid" else TOP

    @property
    def seconds(self) -> float:
        """Estimated seconds that one more seed of every configuration in the table takes.

        The estimate is from finished rows. Averages over datasets include the time on all of them.
        """
        seconds = sum(
            (group.mean("seconds") or 0.0) * len(group.config_keys) for group in self.groups
        )
        return seconds * max(1, len(self.study.pooled_datasets))

    @property
    def differences_by_seed(self) -> list[dict[int, float]]:
        """Differences in the metric by seed, one mapping per group that is compared."""
        return [subtract_by_seed(*values) for values in self._values.values()]

    @cached_property
    def comparisons(self) -> dict[Group, Compared]:
        """Test results of each group that is compared with the baseline."""
        study, metric, pairs = self.study, self.metric, self._values.values()
        comparisons = [comparison for pair in pairs if (comparison := stats.compare_paired(*pair))]
        comparisons = stats.add_verdicts(comparisons, effect_of(study, metric))
        decimals = decimals_of(study, metric)
        comparisons = [
            dataclasses.replace(comparison, decimals=decimals) for comparison in comparisons
        ]
        groups_and_comparisons = zip(self._values, comparisons, strict=True)
        comparisons_by_group = {
            group: self._complete(comparison, *self.pairs[group])
            for group, comparison in groups_and_comparisons
        }
        # a control that equals one of the configurations has the same results
        by_configurations = {
            group.config_keys: comparison for group, comparison in comparisons_by_group.items()
        }
        controls = (
            group for group in self.groups if group.control and group not in comparisons_by_group
        )
        return comparisons_by_group | {
            control: by_configurations[control.config_keys]
            for control in controls
            if control.config_keys in by_configurations
        }

    @cached_property
    def _values(self) -> dict[Group, Pairs]:
        """Metric by seed of each group and of its baseline, over the places that both have."""
        values: dict[Group, Pairs] = {}
        for group, pair in self.pairs.items():
            results, baseline_results = map(self._results, pair)
            if results.keys() & baseline_results.keys():
                values[group] = (
                    mean_by_seed(results, baseline_results),
                    mean_by_seed(baseline_results, results),
                )
        return values

    def _results(self, group: Group) -> dict[PairKey, list[float]]:
        return group.results(f"test/{self.metric}", self.strata)

    def _complete(self, comparison: Compared, group: Group, baseline: Group) -> Compared:
        """Return a comparison with its interval over classes and its number of datasets.

        If all results equal the baseline's, the comparison gets no verdict.
        """
        mean = comparison.difference.mean
        draws, baseline_draws = self._draws(group), self._draws(baseline)
        # compares all results, which is needed only if the means are equal
        is_unchanged = not mean and self._is_unchanged(group, baseline)
        n_datasets, total = len(group.finished_datasets), len(self.datasets)
        classes = difference_over_classes(draws, baseline_draws, mean)
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
        """Datasets that an average should cover; () for kinds other than methods."""
        return list_datasets(self.study) if self.kind == "methods" else ()

    def _is_unchanged(self, group: Group, baseline: Group) -> bool:
        """Return True if each compared result, not only the mean, equals the baseline's."""
        results, baseline_results = (self._results(side.trials) for side in (group, baseline))
        places = [
            [*results[place], *baseline_results[place]]
            for place in results.keys() & baseline_results.keys()
        ]
        return bool(places) and all(
            is_rounding(max(values) - min(values), scale_of(values)) for values in places
        )

    @cached_property
    def _reads_answers(self) -> bool:
        """Whether the correct answers of the runs are read: not for more than MAX_RUNS runs.

        The table of methods over datasets always reads them.
        """
        runs = {run for group in self.groups for run in group.trials.column("run_id")}
        return self.kind == "methods" or len(runs) <= MAX_RUNS

    @cached_property
    def _draws(self) -> Callable[[Group], Draws]:
        """Cached function that returns a group's metric under each draw of classes.

        The function returns {} if there are too many runs to read, except for methods.
        """
        if not self._reads_answers:
            return lambda group: {}
        return cache(lambda group: resample_group(self.study, self.metric, group, self.strata))

    @cached_property
    def runs_without_answers(self) -> tuple[int, int]:
        """Number of finished runs without readable correct answers, and of all finished runs.

        (0, 0) if no run has any, if the metric is not an accuracy, or if there are too many runs to
        read.
        """
        if not self._reads_answers or not has_answers(self.study, self.metric):
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
