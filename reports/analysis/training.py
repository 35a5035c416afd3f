"""Costs and learning curves of configurations, as points of charts.

A point is a dictionary. It contains labels, a mean, and `low` and `high`, the ends of the mean's
95% interval, which are None if there is no interval.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from harness.store import COMPLETE, PRUNED
from reports import tables
from reports.analysis.design import explain_incomparability, select_analyzed_study
from reports.stats import Estimate, compute_mean_interval
from reports.study import History, Study
from reports.tables import Group

Points = list[dict[str, Any]]

OPTIMAL, OTHER = "Pareto-optimal", "other"  # kinds of points (see make_cost_points)


def make_cost_points(study: Study, metric: str) -> Points:
    """Return the cost and the result of each configuration, the cheapest first.

    A configuration is OPTIMAL if its selection score is better than that of every cheaper
    configuration. Test results do not matter. Among configurations with the same cost, only the
    best can be OPTIMAL. If scores cannot be compared (see explain_incomparability), all
    configurations are OTHER.

    Args:
        study: The study. A study over datasets is represented by its averages.
        metric: Name of a test metric.

    Returns:
        Points with the keys

        - label: the configuration's levels as text,
        - seconds: mean computing time per seed,
        - kind: OPTIMAL or OTHER,
        - y, low, high: mean of the metric over seeds, and its interval.

        Configurations without a finished result or without a cost are left out.

    Raises:
        Unavailable: If the study cannot be analyzed (see select_analyzed_study).
    """
    analyzed_study = select_analyzed_study(study, metric)
    labels = tables.make_label_columns(analyzed_study)
    scored_groups = (
        []
        if explain_incomparability(analyzed_study)
        else tables.rank_configurations(analyzed_study)
    )
    scores = {group: score for score, group in scored_groups}
    costs = []
    for group in tables.make_configuration_groups(analyzed_study):
        estimate, seconds = group.estimate(f"test/{metric}"), group.mean("seconds")
        if estimate and seconds is not None:
            costs.append((seconds, scores.get(group, -inf), group, estimate))
    best_score = -inf
    points: Points = []
    for seconds, score, group, estimate in sorted(costs, key=lambda cost: (cost[0], -cost[1])):
        point = {"label": tables.format_group_name(group, labels), "seconds": seconds}
        point["kind"] = OPTIMAL if score > best_score else OTHER
        points.append(point | make_interval_values("y", estimate))
        best_score = max(best_score, score)
    return points


def make_learning_curves(study: Study) -> Points:
    """Return the selection objective at every evaluation of each configuration.

    A run logs the mean over its seeds. A configuration may have several runs, for example because
    seeds were added; a point is then the mean over runs, with its t-interval.

    Args:
        study: Study read from a store. The curves are read from the store on first use.

    Returns:
        Points with the keys

        - key: the configuration's key,
        - label: its levels as text,
        - state: COMPLETE if any seed has this state, else PRUNED if any has, else the state of the
          first seed,
        - step: number of epochs so far, of the generator and then of the fine-tuner,
        - y, low, high: the objective and its interval.

        [] if the store has no curves.
    """
    curves, labels = _read_curves(study), tables.make_label_columns(study)
    points: Points = []
    for group in tables.make_configuration_groups(study):
        group_curves = _select_curves(curves, group.column("run_id"))
        label = tables.format_group_name(group, labels)
        description = {"key": group.value.key, "label": label, "state": _summarize_state(group)}
        for index in range(max(map(len, group_curves), default=0)):
            evaluations = [curve[index] for curve in group_curves if index < len(curve)]
            estimate = compute_mean_interval([value for _, value in evaluations])
            step = max(step for step, _ in evaluations)
            points.append({**description, "step": step, **make_interval_values("y", estimate)})
    return points


def make_interval_values(name: str, estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as a dictionary: the mean under `name`, and the keys low and high."""
    return {name: estimate.mean, "low": estimate.low, "high": estimate.high}


def _read_curves(study: Study) -> dict[str, History]:
    """Return the history of the selection objective by run ID."""
    run_ids = (
        tables.select_configuration_rows(study)["run_id"].drop_nulls().unique(maintain_order=True)
    )
    return study.histories.load(study.score_column, run_ids.to_list())


def _select_curves(curves: Mapping[str, History], run_ids: Iterable[Any]) -> list[History]:
    """Return the curves of a configuration's runs. Runs without a curve are skipped.

    Args:
        curves: Curves by run ID.
        run_ids: Run ID of each seed. Seeds that were trained together share a run.
    """
    return [curves[run_id] for run_id in dict.fromkeys(run_ids) if run_id in curves]


def _summarize_state(group: Group) -> str:
    """Return the state of a configuration with several seeds (see make_learning_curves)."""
    states = group.column("state")
    return next((state for state in (COMPLETE, PRUNED) if state in states), str(states[0]))
