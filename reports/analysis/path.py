"""From the baseline to the setting that selection prefers, one factor at a time."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from reports import tables
from reports.analysis.layout import Unavailable, incomparable, subject
from reports.cells import level_id
from reports.contract import EmptyStudyError
from reports.formatting import DASH
from reports.read import Study, load_records
from reports.stats import Estimate, compare_paired
from reports.tables import Group

MOST_TRIED = 12  # factors of which every combination is looked up where single ones lead nowhere

Assignment = Mapping[str, Any]
Place = frozenset[tuple[str, str]]  # an assignment's factors with the ids of their levels


class NoBaseline(Unavailable):
    """There is no path since its first setting has not finished."""


@dataclass(frozen=True)
class Stop:
    """A setting on the path.

    changes: factor -> its level at the stop before and here, a dash where it is not active; none at
        the baseline, and several factors where no setting between exists.
    setting_key: of the setting.
    score: its mean selection objective. gain: over the stop before.
    difference: in the test metric to the stop before, paired by seed.
    total: in the test metric to the baseline, paired by seed.
    """

    changes: dict[str, tuple[Any, Any]]
    setting_key: str
    score: float
    gain: float | None = None
    difference: Estimate | None = None
    total: Estimate | None = None


@dataclass(frozen=True)
class AblationPath:
    """A path through settings that exist.

    stops: in order, the baseline first; it alone where selection prefers it.
    missing: the assignments one factor away that a step would have looked at and that no finished
        setting has, in the order of the path. With them the path might take another turn. They have
        no dataset where the study is over several: each is wanted on all of them.
    target: the assignment of the setting that it leads to, as missing has them.
    tied: how many settings have the best selection score. Of several the path leads to the
        baseline, or else to the first in the study's order.
    """

    metric: str
    stops: tuple[Stop, ...]
    missing: tuple[dict[str, Any], ...]
    target: dict[str, Any]
    tied: int


def load_path(study_name: str, tracking_uri: str) -> AblationPath:
    """Read a study, and follow its path as far as it has come (see ablation_path).

    Raises:
        ReportError: unreadable store or unknown study (one line).
        Unavailable: there is no path yet.
    """
    try:
        study, metric = tables.with_metric(load_records(study_name, tracking_uri), None)
    except EmptyStudyError as error:
        raise Unavailable("nothing has finished") from error
    return ablation_path(study, metric)


def ablation_path(study: Study, metric: str) -> AblationPath:
    """The path from the baseline to the setting with the best selection score.

    Each step changes the factor that gains most in selection (Fawcett and Hoos, "Analysing
    differences between algorithm configurations through ablation", Journal of Heuristics 22, 2016).
    The test metric is reported and decides nothing.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.

    Raises:
        Unavailable: no two settings can be held against each other; NoBaseline: no start.
    """
    part, column = subject(study, metric), f"test/{metric}"
    if why := incomparable(part):
        raise Unavailable(why)
    scored = tables.by_preference(part)
    if not scored:
        raise Unavailable("no setting has finished with a selection score")
    start = tables.baseline_setting(part, [group for _, group in scored])
    if start is None:
        raise NoBaseline("the setting with every factor at its baseline has not finished")
    # of two settings with one assignment the better
    by_place = {_place(one.value.assignment): (score, one) for score, one in reversed(scored)}
    possible = {level for s in part.own for level in _levels_beside(s.assignment)}
    best = tables.preferred(part)
    # the baseline is no worse than what it is tied with
    target = (start if start in best else best[0]).value.assignment
    first_score, first = by_place[_place(start.value.assignment)]
    stops, here = [Stop({}, first.value.key, first_score)], first
    missing: dict[Place, dict[str, Any]] = {}
    while _differing(here.value.assignment, target):
        before = here.value.assignment
        for one in _nearer(before, target, 1):
            if _levels_beside(one) <= possible and _place(one) not in by_place:
                missing[_place(one)] = one
        score, found = _best(before, target, by_place)
        after = found.value.assignment
        changed = _differing(before, after)
        stops.append(
            Stop(
                {key: (before.get(key, DASH), after.get(key, DASH)) for key in changed},
                found.value.key,
                score,
                score - stops[-1].score,
                _difference(found, here, column),
                _difference(found, first, column),
            )
        )
        here = found
    return AblationPath(metric, tuple(stops), tuple(missing.values()), dict(target), len(best))


def _difference(after: Group, before: Group, column: str) -> Estimate | None:
    found = compare_paired(after.seeds(column), before.seeds(column))
    return found.difference if found else None


def _best(
    here: Assignment, target: Assignment, by_place: Mapping[Place, tuple[float, Group]]
) -> tuple[float, Group]:
    """The best existing setting that is the fewest factors nearer to the target; at last it."""
    differ = len(_differing(here, target))
    sizes = range(1, differ + 1) if differ <= MOST_TRIED else (1, 2, differ)
    nearer = (map(_place, _nearer(here, target, size)) for size in sizes)
    found = ([by_place[place] for place in places if place in by_place] for places in nearer)
    return max(next(filter(None, found)), key=itemgetter(0))


def _nearer(here: Assignment, target: Assignment, size: int) -> Iterator[dict[str, Any]]:
    """The assignments with so many factors more as the target has them."""
    for keys in itertools.combinations(_differing(here, target), size):
        kept = {key: value for key, value in here.items() if key not in keys}
        yield kept | {key: target[key] for key in keys if key in target}


def _differing(here: Assignment, target: Assignment) -> list[str]:
    """The factors that have other levels, or are active in one of the two alone."""
    differ = {key for key, _ in _place(here) ^ _place(target)}
    return [key for key in {**here, **target} if key in differ]


def _place(assignment: Assignment) -> Place:
    """Equal assignments, equal places."""
    return frozenset((key, level_id(value)) for key, value in assignment.items())


def _levels_beside(assignment: Assignment) -> set[tuple[tuple[str, str], frozenset[str]]]:
    """Levels with the factors that are active beside them (`when:`)."""
    return {(level, frozenset(assignment)) for level in _place(assignment)}
