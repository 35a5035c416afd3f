"""Configurations ranked by selection score, and the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.store import COMPETING
from reports.formatting import join_names
from reports.stats import Compared, Estimate, compare_paired, compute_scale, is_rounding
from reports.study import Study
from reports.tables.controls import compare_with_control, find_controls_by_configuration
from reports.tables.group import Group, mean
from reports.tables.groups import (
    find_baseline_configuration_group,
    format_group_name,
    join_rules,
    make_configuration_groups,
    make_label_columns,
    select_configuration_rows,
)
from reports.tables.metric import compute_interval
from reports.tables.over_datasets import (
    average_over_datasets,
    find_factors_that_change_test_classes,
)


def rank_configurations(study: Study) -> list[tuple[float, Group]]:
    """Return (mean selection score, configuration) pairs, best first.

    Configurations without finished rows are left out, and so are those with a finished row that
    lacks the score.
    """
    column = study.score_column
    scores_and_groups = [(group.mean(column), group) for group in make_configuration_groups(study)]
    return [
        (score, group)
        for score, group in scores_and_groups
        if score is not None and len(group.finished_values(column)) == len(group.finished_rows)
    ]


def get_selection_rules(study: Study) -> str:
    """Return the selection rules of all configurations except controls, joined by join_rules."""
    return join_rules(select_configuration_rows(study)["selection"].to_list())


def find_best_configurations(study: Study) -> list[Group]:
    """Return the configurations with the best mean selection score, including ties.

    Scores that differ only by rounding errors are tied. The result is [] if no configuration has a
    score.
    """
    ranking = rank_configurations(study)
    ties = find_ties([score for score, _ in ranking])
    return [group for (_, group), is_tied in zip(ranking, ties, strict=True) if is_tied]


def find_ties(scores: Sequence[float]) -> list[bool]:
    """Return whether each score differs from the best one only by a rounding error.

    Args:
        scores: Scores, the best one first.
    """
    scale = compute_scale(scores)
    return [is_rounding(scores[0] - score, scale) for score in scores]


@dataclass(frozen=True)
class Headline:
    """Test result of the configuration with the best selection score.

    If several configurations are tied, all numbers are computed from their mean for each seed.

    Attributes:
        configuration: The configuration as text. Tied configurations are all listed. "" if the
            study has no factors.
        estimate: Mean of the metric over seeds, with its interval.
        differences: Mean differences over common seeds, by "baseline" or the name of a competing
            control. The control has the configuration's levels of the factors that affect it. There
            is no entry without a common seed, or for a control that is the configuration itself.
    """

    configuration: str
    estimate: Estimate
    differences: Mapping[str, Estimate]


def make_headline(study: Study, metric: str) -> Headline | None:
    """Return the test result of the configuration with the best selection score.

    In a study over several datasets, results are averages over the datasets.

    Args:
        study: Study read from the store.
        metric: Test metric of the study's protocol.

    Returns:
        None in each of these cases:

        - No configuration has finished, or no method is planned on all datasets.
        - There are several configurations, but none has a selection score.
        - Selection scores cannot be compared, because the configurations differ in datasets,
          classes or selection rules.
        - The tied configurations have no finished seed in common.
        - A finished seed of a best configuration lacks the metric. Tables show no mean in this
          case, either.
    """
    averaged_study = average_over_datasets(study)
    if (
        averaged_study is None
        or find_factors_that_change_test_classes(averaged_study)
        or "+" in get_selection_rules(averaged_study)
    ):
        return None
    configurations = make_configuration_groups(averaged_study)
    best_groups = find_best_configurations(averaged_study)
    if not best_groups and len(configurations) == 1:  # a single one needs no score
        best_groups = list(configurations)
    column = f"test/{metric}"
    values = _average_results([group.values_by_seed(column) for group in best_groups])
    if not values or not all(group.estimate(column) for group in best_groups):
        return None
    comparisons: dict[str, Compared | None] = {}
    baseline = find_baseline_configuration_group(averaged_study, configurations)
    if baseline is not None and averaged_study.factors:
        comparisons["baseline"] = compare_paired(values, baseline.values_by_seed(column))
    for control in COMPETING:
        controls = find_controls_by_configuration(averaged_study, control)
        if all(group.value.key in controls for group in best_groups):
            comparisons[control] = compare_with_control(
                averaged_study, metric, controls, best_groups
            )
    differences = {
        name: comparison.difference for name, comparison in comparisons.items() if comparison
    }
    names = join_names(
        [format_group_name(group, make_label_columns(averaged_study)) for group in best_groups],
        "; ",
    )
    configuration = (
        f"{len(best_groups)} tied configurations: {names}" if len(best_groups) > 1 else names
    )
    return Headline(configuration, compute_interval(metric, [*values.values()]), differences)


def _average_results(results: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean over configurations by seed, for the seeds that all configurations have.

    Args:
        results: Values by seed, one mapping per configuration. {} is returned for [].
    """
    seeds = sorted(set.intersection(*map(set, results))) if results else []
    return {seed: mean([by_seed[seed] for by_seed in results]) for seed in seeds}
