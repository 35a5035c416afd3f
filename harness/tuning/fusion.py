"""Fused settings: what one Ray trial trains side by side, and what became of each.

Settings that differ in a loss's factor or an optimizer's step alone (ship.training.per_replica) run
through the same arithmetic at once. To the store, to Optuna and to the scheduler each of them
remains a trial of its own: a run, a state, seeds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from harness.planning import Work
from harness.worker import FAILED, FINAL, checkpoint_name
from reports.contract import Failure, State
from ship.training import shared_shape

# The works of one Ray trial, in the order in which their replicas stand in it.
Group = tuple[Work, ...]


def member_id(trial_id: str, place: int) -> str:
    """What a setting of a Ray trial is called; Ray's own ids have no slash."""
    return f"{trial_id}/{place}"


def group_checkpoint(group: Group) -> str:
    """What the checkpoint of a group is called."""
    return checkpoint_name([work.setting.key for work in group], group[0].seeds)


def alike(one: Work, other: Work) -> bool:
    """Whether two works can be trained side by side: one shape, and the same seeds are missing.

    Other seeds would do, but for a quality metric that one seed's pictures cannot carry: it is left
    out of all replicas.
    """
    return _shape(one) == _shape(other)


def _shape(work: Work) -> tuple[str, tuple[int, ...]]:
    return shared_shape(work.setting.config), work.seeds


def fuse(works: Iterable[Work], most: Callable[[Work, int], int]) -> list[Group]:
    """Groups of works that are alike, each group where its first one stood.

    Args:
        most: how many are to be fused of n works like the given one; they are cut into groups of
            nearly equal size.
    """
    sets: dict[tuple[str, tuple[int, ...]], list[Work]] = {}
    for work in works:
        sets.setdefault(_shape(work), []).append(work)
    groups: list[Group] = []
    for members in sets.values():
        n_groups = -(-len(members) // max(1, most(members[0], len(members))))
        cuts = [round(i * len(members) / n_groups) for i in range(n_groups + 1)]
        groups += [tuple(members[a:b]) for a, b in pairwise(cuts)]
    return groups


@dataclass
class Pruned:
    """Which settings of which Ray trials the scheduler has stopped; the others train on."""

    _places: dict[str, set[int]] = field(default_factory=dict)

    def add(self, trial_id: str, place: int) -> None:
        """The setting at that place is not worth going on with."""
        self._places.setdefault(trial_id, set()).add(place)

    def of(self, trial_id: str) -> Set[int]:
        """Places of a Ray trial."""
        return self._places.get(trial_id, set())


@dataclass(frozen=True)
class Ending:
    """What became of one setting of a Ray trial.

    state: COMPLETE with `final`, PRUNED, FAIL with `failure`; INTERRUPTED: it runs again, as it was
        not this setting that ended the trial.
    final: the FINAL part of the last result that is this setting's.
    blamed: it was what ended the trial; a pruned one can be, too.
    """

    state: State
    final: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure = Failure.ERROR
    reason: str = ""
    blamed: bool = False


def endings(
    n: int, last: Mapping[str, Any], pruned: Set[int], death: Sequence[Ending] | None = None
) -> list[Ending]:
    """What became of each setting of a Ray trial, by its last result, or by its worker's death.

    Args:
        n: settings that the trial had.
        last: its last result.
        pruned: places, from 0, of the settings that the scheduler has stopped.
        death: what becomes of each of the n settings as the worker died; None: it lives.

    Returns:
        n endings, in the order of the settings.
    """
    failed = death
    if failed is None and FAILED in last:
        failed = [_failed(entry) for entry in last[FAILED]]
    finals = last.get(FINAL)
    ended = []
    for place in range(n):
        if place in pruned:
            ended.append(Ending(State.PRUNED, blamed=bool(failed and failed[place].blamed)))
        elif failed is not None:
            ended.append(failed[place])
        else:
            ended.append(Ending(State.COMPLETE, finals[place]) if finals else Ending(State.PRUNED))
    return ended


def dead(n: int, failure: Failure, reason: str) -> list[Ending]:
    """What becomes of the settings of a Ray trial whose worker died.

    A setting that was alone has failed. Of several nobody knows whose fault it was, and none has.

    Args:
        n: settings that the trial had.
        failure: of which kind the death was.
        reason: the same for people.

    Returns:
        n endings.
    """
    state = State.FAIL if n == 1 else State.INTERRUPTED
    return [Ending(state, failure=failure, reason=reason, blamed=n == 1)] * n


def _failed(entry: Mapping[str, Any]) -> Ending:
    if entry["failure"] is None:
        return Ending(State.INTERRUPTED, reason=entry["reason"])
    failure = Failure(entry["failure"])
    return Ending(State.FAIL, failure=failure, reason=entry["reason"], blamed=True)


def again(ended: Sequence[Ending]) -> list[list[int]]:
    """Places that run again, in groups.

    Beside one that is to blame, the innocent ones as they were; if none is, in halves, so
    that a shortage of memory ends, and a fault that lies in one of them is found.
    """
    left = [place for place, ending in enumerate(ended) if ending.state is State.INTERRUPTED]
    if any(ending.blamed for ending in ended) or len(left) < 2:
        return [left] if left else []
    middle = len(left) // 2
    return [left[:middle], left[middle:]]
