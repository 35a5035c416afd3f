"""What a setting costs, and how it trains.

Each is a list of points as a chart draws them: what names a point, a mean, and the ends `low` and
`high` of its 95% interval, None where there are none.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from harness.store import COMPLETE, PRUNED
from reports import tables
from reports.analysis.layout import incomparable, subject
from reports.stats import Estimate, mean_interval
from reports.study import History, Study
from reports.tables import Group

Points = list[dict[str, Any]]

OPTIMAL, OTHER = "none is better and cheaper", "other"  # kinds of settings


def cost_points(study: Study, metric: str) -> Points:
    """Every finished setting with its cost, the cheapest first.

    A setting is OPTIMAL where no other has as good a selection score for as few seconds. Test
    decides nothing here; none is where the study's scores do not compare (on test pictures, or by
    different rules).

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.

    Returns:
        label (the setting's factors in words), seconds (of computing for a seed, mean), kind, y
        (the metric over seeds).

    Raises:
        Unavailable: see subject.
    """
    part = subject(study, metric)
    labels = tables.factor_labels(part)
    ranked = [] if incomparable(part) else tables.by_preference(part)
    scores = {group: score for score, group in ranked}
    found = []
    for group in tables.setting_groups(part):
        estimate, spent = group.estimate(f"test/{metric}"), group.mean("seconds")
        if estimate and spent is not None:
            found.append((spent, -scores.get(group, -inf), group, estimate))
    best = -inf
    points: Points = []
    for spent, loss, group, estimate in sorted(found, key=lambda one: one[:2]):
        own = {"label": tables.spelled(group, labels), "seconds": spent}
        own["kind"] = OPTIMAL if -loss > best else OTHER
        points.append(own | interval_values("y", estimate))
        best = max(best, -loss)
    return points


def learning_curves(study: Study) -> Points:
    """The selection objective at every evaluation of each setting, from the store, asked now.

    A run logs the mean over its seeds; where a setting has several runs (seeds were added, say),
    their mean is shown, and its t-interval over them.

    Args:
        study: read from a store; where that has no curve, there are no points.

    Returns:
        key (the setting's), label (its factors in words), state (COMPLETE where any seed is, PRUNED
        where the scheduler stopped it, else what its first row has), step (the epochs of all stages
        up to it), y.
    """
    curves, labels = _curves(study), tables.factor_labels(study)
    points: Points = []
    for group in tables.setting_groups(study):
        own, label = _of_runs(curves, group.column("run_id")), tables.spelled(group, labels)
        words = {"key": group.value.key, "label": label, "state": _state(group)}
        for place in range(max(map(len, own), default=0)):
            held = [curve[place] for curve in own if place < len(curve)]
            numbers = interval_values("y", mean_interval([value for _, value in held]))
            points.append({**words, "step": max(step for step, _ in held), **numbers})
    return points


def interval_values(name: str, estimate: Estimate) -> dict[str, Any]:
    """An estimate as values: its mean under a name, low and high."""
    return {name: estimate.mean, "low": estimate.low, "high": estimate.high}


def _curves(study: Study) -> dict[str, History]:
    """Run id -> the objective at its evaluations."""
    run_ids = tables.own_rows(study)["run_id"].drop_nulls().unique(maintain_order=True)
    return study.histories.of(study.score, run_ids.to_list())


def _of_runs(curves: Mapping[str, History], run_ids: Iterable[Any]) -> list[History]:
    """The curves of some runs, each once: a run has a row for each of its seeds."""
    return [curves[run_id] for run_id in dict.fromkeys(run_ids) if run_id in curves]


def _state(group: Group) -> str:
    states = group.column("state")
    return next((state for state in (COMPLETE, PRUNED) if state in states), str(states[0]))
