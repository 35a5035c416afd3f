"""Configurations ranked by selection score, and the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.store import COMPETING
from reports.formatting import join_names
from reports.stats import Compared, Estimate, compare_paired, is_rounding, scale_of
from reports.study import Study
from reports.tables.controls import compare_with_control, controls_by_configuration
from reports.tables.group import Group, mean
from reports.tables.groups import (
    baseline_configuration,
    configuration_groups,
    configuration_rows,
    factor_labels,
    join_rules,
    row_text,
)
from reports.tables.metric import interval_of
from reports.tables.over_datasets import average_over_datasets, factors_with_own_classes


def rank_configurations(study: Study) -> list[tuple[float, Group]]:
    """Return (mean selection score, configuration) pairs, the best first.

    Configurations with a finished row that has no score are left out.
    """
    column = study.score_column
    scores_and_groups = [(group.mean(column), group) for group in configuration_groups(study)]
    return [
        (score, group)
        for score, group in scores_and_groups
        if score is not None and len(group.finished_values(column)) == len(group.finished_rows)
    ]


def selection_rules(study: Study) -> str:
    """Return the selection rules of a study's configurations, without controls; see join_rules."""
    return join_rules(configuration_rows(study)["selection"].to_list())


def best_configurations(study: Study) -> list[Group]:
    """Return the configurations with the best selection score: several if they are tied.

    Scores that are equal up to rounding are tied. The result is [] if no configuration has a score.
    """
    ranking = rank_configurations(study)
    ties = find_ties([score for score, _ in ranking])
    return [group for (_, group), is_tied in zip(ranking, ties, strict=True) if is_tied]


def find_ties(scores: Sequence[float]) -> list[bool]:
    """Return whether each score equals the best one up to rounding.

    Args:
        scores: Scores in descending order.
    """
    scale = scale_of(scores)
    return [is_rounding(scores[0] - score, scale) for score in scores]


@dataclass(frozen=True)
class Headline:
    """Test result of the configuration that selection prefers.

    Attributes:
        configuration: The configuration as text; "" without factors. All tied configurations are
            listed.
        estimate: Estimate of the metric over seeds. The value of a seed is the mean over all tied
            configurations.
        differences: The configuration's mean difference to "baseline" and to each control, by name,
            over the seeds that both finished. A control has the configuration's levels of all
            factors that the control reads. Controls that have not finished have no entry.
    """

    configuration: str
    estimate: Estimate
    differences: Mapping[str, Estimate]


def make_headline(study: Study, metric: str) -> Headline | None:
    """Return the test result of the configuration that selection prefers.

    In a study over several datasets, results are averages over the datasets.

    Args:
        study: Study read from the store.
        metric: Test metric of its protocol.

    Returns:
        None if no configuration is preferred: none has finished, several have no selection score,
        or they cannot be compared because their datasets, classes or selection rules differ. Also
        None if a finished seed of the preferred configuration lacks the metric, because tables then
        have no mean either.
    """
    averaged_study = average_over_datasets(study)
    if (
        averaged_study is None
        or factors_with_own_classes(averaged_study)
        or "+" in selection_rules(averaged_study)
    ):
        return None
    configurations = configuration_groups(averaged_study)
    best_groups = best_configurations(averaged_study) or (
        list(configurations) if len(configurations) == 1 else []
    )
    column = f"test/{metric}"
    values = _mean_results([group.values_by_seed(column) for group in best_groups])
    if not values or not all(group.estimate(column) for group in best_groups):
        return None
    baseline = (
        baseline_configuration(averaged_study, configurations) if averaged_study.factors else None
    )
    comparisons: dict[str, Compared | None] = {}
    if baseline is not None:
        comparisons["baseline"] = compare_paired(values, baseline.values_by_seed(column))
    for control in COMPETING:
        controls = controls_by_configuration(averaged_study, control)
        if all(group.value.key in controls for group in best_groups):
            comparisons[control] = compare_with_control(
                averaged_study, metric, controls, best_groups
            )
    differences = {
        name: comparison.difference for name, comparison in comparisons.items() if comparison
    }
    names = join_names(
        [row_text(group, factor_labels(averaged_study)) for group in best_groups], "; "
    )
    configuration = (
        f"{len(best_groups)} tied configurations: {names}" if len(best_groups) > 1 else names
    )
    return Headline(configuration, interval_of(metric, [*values.values()]), differences)


def _mean_results(results: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean over several configurations by seed, for the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, results))) if results else []
    return {seed: mean([by_seed[seed] for by_seed in results]) for seed in seeds}
