"""The selection objective over training: curves, and whether early values tell the late ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from reports.analysis.design import Unavailable, scores_compare
from reports.contract import COMPLETE, PRUNED
from reports.read import Study
from reports.stats import FEWEST_RANKED, Estimate, mean_interval, rank_interval
from reports.tables import factor_labels, setting_groups, spelled, without_added

_POINTS = {
    "setting_key": pl.String,
    "label": pl.String,
    "state": pl.String,
    "evaluation": pl.Int64,
    "step": pl.Int64,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "runs": pl.Int64,
}


@dataclass(frozen=True)
class LearningCurves:
    """The selection objective at every evaluation.

    metric: the objective's name.
    points: a row for each setting and evaluation: setting_key, label (its factors in words), state
        (COMPLETE where any seed is, PRUNED where the scheduler stopped it, else what its first row
        has), evaluation (0 is the first: before training, where anything is trained), step (the
        epochs of all stages up to it), mean, low and high (over runs, null of one run), runs.
    settings: with a curve. without: that have runs and no curve that can be read.
    """

    metric: str
    points: pl.DataFrame
    settings: int
    without: int


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


def learning_curves(study: Study) -> LearningCurves | Unavailable:
    """The curve of every setting that has run, from the store, which is asked now.

    A run logs the mean over its seeds; where a setting has several runs (seeds were added, say),
    their mean is shown, and its t-interval over them.

    Args:
        study: read from a store.
    """
    curves = _curves(study)
    if isinstance(curves, Unavailable):
        return curves
    labels, rows, shown, without = factor_labels(study), [], 0, 0
    for group in setting_groups(study):
        own = [curves[run_id] for run_id in _run_ids(group.rows) if run_id in curves]
        without += not own and bool(_run_ids(group.rows))
        shown += bool(own)
        for place in range(max(map(len, own), default=0)):
            held = [curve[place] for curve in own if place < len(curve)]
            estimate = mean_interval([value for _, value in held])
            step = max(step for step, _ in held)
            numbers = (estimate.mean, estimate.low, estimate.high, len(held))
            words = (group.value.key, spelled(group, labels), _state(group.rows))
            rows.append((*words, place, step, *numbers))
    points = pl.DataFrame(rows, schema=_POINTS, orient="row")
    return LearningCurves(study.objective, points, shown, without)


def budget_correlation(study: Study) -> BudgetCorrelation | Unavailable:
    """Spearman's rho of early values of the objective with the final one, over settings.

    The final value is that at the epoch which selection chose, averaged over seeds. It is the best
    of a run's evaluations, so late rungs are correlated with it by construction. Settings that
    --path ran are left out.

    Args:
        study: read from a store.
    """
    study = without_added(study)
    curves = scores_compare(study) or _curves(study)
    if isinstance(curves, Unavailable):
        return curves
    column = f"selection/{study.objective}"
    early: list[list[float]] = []
    final: list[float] = []
    for group in setting_groups(study):
        done = group.done
        scores = done[column].drop_nulls().to_list() if column in done.columns else []
        own = [curves[run_id] for run_id in _run_ids(done) if run_id in curves]
        if scores and own:
            length = min(map(len, own))
            early.append([float(np.mean([c[i][1] for c in own])) for i in range(length)])
            final.append(sum(scores) / len(scores))
    if len(final) < FEWEST_RANKED:
        return Unavailable(f"{len(final)} settings reached the end, ranks need {FEWEST_RANKED}")
    stopped = sum(_state(group.rows) == PRUNED for group in setting_groups(study))
    rungs = tuple(_rung(place, early, final) for place in _places(max(map(len, early)) - 1))
    if not rungs:
        return Unavailable("each setting was evaluated once: there is no earlier value")
    return BudgetCorrelation(study.objective, rungs, stopped)


def _rung(place: int, early: Sequence[Sequence[float]], final: Sequence[float]) -> Rung:
    both = [(own[place], end) for own, end in zip(early, final, strict=True) if place < len(own)]
    # Seeded by nothing but the data's order: the same store gives the same numbers.
    rng = np.random.default_rng(0)
    rho = rank_interval([one for one, _ in both], [end for _, end in both], rng)
    return Rung(place, rho, len(both))


def _places(last: int) -> list[int]:
    """1, 2, 4, ... and the last evaluation; [] where there is only the first."""
    return [*(2**i for i in range(last.bit_length()) if 2**i < last), *([last] if last > 0 else [])]


def _curves(study: Study) -> dict[str, list[tuple[int, float]]] | Unavailable:
    """Run id -> the objective at its evaluations."""
    if study.pooled:
        return Unavailable("an average over datasets has no curve")
    own = [setting.key for setting in study.settings if not setting.arm]
    run_ids = _run_ids(study.rows.filter(pl.col("setting_key").is_in(own)))
    found = study.histories.of(f"selection/{study.objective}", run_ids)
    if not found:
        return Unavailable("the store has no history of the selection objective")
    return found


def _run_ids(rows: pl.DataFrame) -> list[str]:
    return [str(one) for one in rows["run_id"].drop_nulls().unique(maintain_order=True).to_list()]


def _state(rows: pl.DataFrame) -> str:
    states = rows["state"].to_list()
    return next((state for state in (COMPLETE, PRUNED) if state in states), str(states[0]))
