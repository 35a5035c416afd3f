"""What a setting costs, how it trains, and whether early values tell the late ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from reports import tables
from reports.analysis.layout import incomparable, subject
from reports.contract import COMPLETE, PRUNED
from reports.read import History, Study
from reports.stats import FEWEST_RANKED, Estimate, mean_interval, rank_interval
from reports.tables import Group


@dataclass(frozen=True)
class CostPoint:
    """A finished setting.

    label: its factors in words.
    seconds: of computing for a seed, mean.
    value: of the test metric, over seeds.
    optimal: no other setting has a better selection score for no more seconds. Test decides nothing
        here; none is where the study's scores do not compare (on test pictures, or by different
        rules).
    """

    label: str
    seconds: float
    value: Estimate
    optimal: bool


@dataclass(frozen=True)
class LearningCurves:
    """The selection objective at every evaluation.

    metric: the objective's name.
    points: of each setting at each evaluation: key (the setting's), label (its factors in words),
        state (COMPLETE where any seed is, PRUNED where the scheduler stopped it, else what its
        first row has), step (the epochs of all stages up to it), y, low and high (over runs, None
        of one).
    settings: with a curve.
    """

    metric: str
    points: list[dict[str, Any]]
    settings: int


@dataclass(frozen=True)
class Rung:
    """An evaluation, and how its ranking of settings goes with the final one.

    rho: Spearman's, with a bootstrap interval over settings; None where it is undefined. n: the
        settings that reached both.
    """

    evaluation: int
    rho: Estimate | None
    n: int


@dataclass(frozen=True)
class BudgetCorrelation:
    """How early the final ranking shows.

    rungs: evaluations 1, 2, 4, ... and the last.
    stopped: settings that the scheduler stopped. Only the better ones then reach the end, which
        makes every rho smaller than it is over all settings.
    """

    metric: str
    rungs: tuple[Rung, ...]
    stopped: int


def cost_against(study: Study, metric: str) -> tuple[CostPoint, ...]:
    """Every finished setting with its cost, the cheapest first.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.

    Raises:
        Unavailable: see subject.
    """
    part = subject(study, metric)
    labels = tables.factor_labels(part)
    ranked = [] if incomparable(part) else tables.by_preference(part)
    scores = {group: score for score, group in ranked}
    found = []
    for group in tables.setting_groups(part):
        values, spent = group.known(f"test/{metric}"), group.mean("seconds")
        if values and spent is not None:
            value = tables.interval_of(metric, values)
            found.append((spent, -scores.get(group, -inf), tables.spelled(group, labels), value))
    best, made = -inf, []
    for spent, loss, label, value in sorted(found, key=lambda point: point[:2]):
        made.append(CostPoint(label, spent, value, optimal=-loss > best))
        best = max(best, -loss)
    return tuple(made)


def learning_curves(study: Study) -> LearningCurves:
    """The curve of every setting that has run, from the store, which is asked now.

    A run logs the mean over its seeds; where a setting has several runs (seeds were added, say),
    their mean is shown, and its t-interval over them.

    Args:
        study: read from a store; where that has no curve, there are no points.
    """
    curves, labels, shown = _curves(study), tables.factor_labels(study), 0
    points: list[dict[str, Any]] = []
    for group in tables.setting_groups(study):
        own = _of_runs(curves, group.column("run_id"))
        shown += bool(own)
        label = tables.spelled(group, labels)
        words = {"key": group.value.key, "label": label, "state": _state(group)}
        for place in range(max(map(len, own), default=0)):
            held = [curve[place] for curve in own if place < len(curve)]
            estimate = mean_interval([value for _, value in held])
            numbers = {"y": estimate.mean, "low": estimate.low, "high": estimate.high}
            points.append({**words, "step": max(step for step, _ in held), **numbers})
    return LearningCurves(study.objective, points, shown)


def budget_correlation(study: Study) -> BudgetCorrelation | None:
    """Spearman's rho of early values of the objective with the final one, over settings.

    The final value is that at the epoch which selection chose, averaged over seeds. It is the best
    of a run's evaluations, so late rungs are correlated with it by construction. Settings that
    --path ran are left out.

    Args:
        study: read from a store.

    Returns:
        None without curves, with too few of them or no early values, or where scores do not
        compare.
    """
    study = tables.without_added(study)
    curves, groups = _curves(study), tables.setting_groups(study)
    column = f"selection/{study.objective}"
    early: list[list[float]] = []
    final: list[float] = []
    for group in groups:
        score, own = group.mean(column), _of_runs(curves, group.known("run_id"))
        if score is not None and own:
            length = min(map(len, own))
            early.append([float(np.mean([c[i][1] for c in own])) for i in range(length)])
            final.append(score)
    last = max(map(len, early), default=1) - 1
    if len(final) < FEWEST_RANKED or not last or incomparable(study):
        return None
    places = [*(2**i for i in range(last.bit_length()) if 2**i < last), last]
    stopped = sum(_state(group) == PRUNED for group in groups)
    rungs = tuple(_rung(place, early, final) for place in places)
    return BudgetCorrelation(study.objective, rungs, stopped)


def _rung(place: int, early: Sequence[Sequence[float]], final: Sequence[float]) -> Rung:
    both = [(own[place], end) for own, end in zip(early, final, strict=True) if place < len(own)]
    # Seeded by nothing but the data's order: the same store gives the same numbers.
    rng = np.random.default_rng(0)
    rho = rank_interval([one for one, _ in both], [end for _, end in both], rng)
    return Rung(place, rho, len(both))


def _curves(study: Study) -> dict[str, History]:
    """Run id -> the objective at its evaluations."""
    own = [setting.key for setting in study.settings if not setting.arm]
    run_ids = tables.rows_of(study, own)["run_id"].drop_nulls().unique(maintain_order=True)
    return study.histories.of(f"selection/{study.objective}", run_ids.to_list())


def _of_runs(curves: Mapping[str, History], run_ids: Iterable[Any]) -> list[History]:
    """The curves of some runs, each once: a run has a row for each of its seeds."""
    return [curves[run_id] for run_id in dict.fromkeys(run_ids) if run_id in curves]


def _state(group: Group) -> str:
    states = group.column("state")
    return next((state for state in (COMPLETE, PRUNED) if state in states), str(states[0]))
