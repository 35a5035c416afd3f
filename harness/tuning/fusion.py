"""Fused settings: what one Ray trial trains side by side, and what became of each.

Settings that differ only in a loss's factor or an optimizer's step (ship.training.per_replica) run
through the same arithmetic at once. A setting's place is its index, from 0, in its Ray trial. To
the store, to Optuna and to the scheduler each setting remains a trial of its own, with its own run,
state and seeds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from harness.planning import Work
from harness.worker import FAILED, FINAL, checkpoint_name
from reports.contract import Failure, State
from ship.settings import shared_shape

# The works of one Ray trial, in the order of their places. The replicas stand in the same order:
# one for each seed of the first work, then those of the second.
Group = tuple[Work, ...]


def member_id(trial_id: str, place: int) -> str:
    """The name of the setting at a place of a Ray trial; Ray's own ids have no slash."""
    return f"{trial_id}/{place}"


def group_checkpoint(group: Group) -> str:
    """The name of a group's checkpoint."""
    return checkpoint_name([work.setting.key for work in group], group[0].seeds)


def alike(one: Work, other: Work) -> bool:
    """Whether two works can be trained side by side: they have the same shape and seeds.

    Works of different seeds could be trained so, too. But a quality metric that the pictures of one
    seed do not allow is left out for all replicas, so one work would cost the other its metric.
    """
    return _shape_and_seeds(one) == _shape_and_seeds(other)


def _shape_and_seeds(work: Work) -> tuple[str, tuple[int, ...]]:
    """What two works must have in common to be trained side by side."""
    return shared_shape(work.setting.config), work.seeds


def fuse(works: Iterable[Work], largest_group: Callable[[Work, int], int]) -> list[Group]:
    """Cut works into groups of works that are alike, of nearly equal size.

    Args:
        works: what is to run.
        largest_group: given a work, and how many works are like it (itself included), returns the
            largest size of their groups.

    Returns:
        The groups; those of works that are alike stand together, in the order of their first work.
    """
    sets: dict[tuple[str, tuple[int, ...]], list[Work]] = {}
    for work in works:
        sets.setdefault(_shape_and_seeds(work), []).append(work)
    groups: list[Group] = []
    for members in sets.values():
        n_groups = -(-len(members) // max(1, largest_group(members[0], len(members))))
        cuts = [round(i * len(members) / n_groups) for i in range(n_groups + 1)]
        groups += [tuple(members[a:b]) for a, b in pairwise(cuts)]
    return groups


@dataclass
class PrunedSettings:
    """Which settings of which Ray trials the scheduler has stopped; the others train on."""

    # Ray's id of a trial -> places in it, and why each was stopped
    _places: dict[str, dict[int, str]] = field(default_factory=dict)

    def add(self, trial_id: str, place: int, reason: str) -> None:
        """Note that the scheduler has stopped the setting at that place of a Ray trial, and why."""
        self._places.setdefault(trial_id, {})[place] = reason

    def of(self, trial_id: str) -> Set[int]:
        """Places of the settings of a Ray trial that the scheduler has stopped."""
        return self._places.get(trial_id, {}).keys()

    def reason(self, trial_id: str, place: int) -> str:
        """Why the setting at that place of a Ray trial was stopped, for people."""
        return self._places.get(trial_id, {}).get(place, "the scheduler stopped it")


@dataclass(frozen=True)
class Ending:
    """What became of one setting of a Ray trial.

    state: COMPLETE, PRUNED or FAIL; INTERRUPTED: the setting runs again, as it is not known to have
        ended the trial.
    final: this setting's entry under FINAL in the trial's last result; empty unless COMPLETE.
    failure: the kind of failure; it counts for FAIL alone.
    reason: why the setting failed or was interrupted, for people.
    blamed: whether this setting ended the trial; a pruned setting can be blamed, too.
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
        n: number of settings that the trial had.
        last: the trial's last result; it does not count where the worker died.
        pruned: places of the settings that the scheduler has stopped.
        death: where the worker died, what becomes of each of the n settings (see
            endings_by_death); else None.

    Returns:
        n endings, in the order of the settings.
    """
    failed = death
    if failed is None and FAILED in last:
        failed = [_failed_ending(entry) for entry in last[FAILED]]
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


def endings_by_death(n: int, failure: Failure, reason: str) -> list[Ending]:
    """What becomes of the settings of a Ray trial whose worker died.

    A setting that was alone in its trial has failed. Of several settings nobody knows which one
    killed the worker; none of them has failed, and all are interrupted.

    Args:
        n: number of settings that the trial had.
        failure: the kind of death.
        reason: what the worker died of, for people.

    Returns:
        n equal endings.
    """
    state = State.FAIL if n == 1 else State.INTERRUPTED
    return [Ending(state, failure=failure, reason=reason, blamed=n == 1)] * n


def _failed_ending(entry: Mapping[str, Any]) -> Ending:
    """The ending that a setting's entry under FAILED tells of; without a failure, no blame."""
    if entry["failure"] is None:
        return Ending(State.INTERRUPTED, reason=entry["reason"])
    failure = Failure(entry["failure"])
    return Ending(State.FAIL, failure=failure, reason=entry["reason"], blamed=True)


def groups_to_rerun(ended: Sequence[Ending]) -> list[list[int]]:
    """Places of the interrupted settings, in the groups in which they run again.

    If a setting is to blame, the interrupted ones run again together. If none is, they run again in
    two halves: each needs less memory, and a fault that lies in one setting is narrowed down.

    Args:
        ended: the endings of a Ray trial's settings, by place.
    """
    left = [place for place, ending in enumerate(ended) if ending.state is State.INTERRUPTED]
    if any(ending.blamed for ending in ended) or len(left) < 2:
        return [left] if left else []
    middle = len(left) // 2
    return [left[:middle], left[middle:]]
