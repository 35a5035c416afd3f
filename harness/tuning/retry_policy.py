"""What runs again of a Ray trial that went wrong, and what is recorded of its settings meanwhile.

- A lost node is nobody's fault: its trials run again as they were, a few times.
- A worker that died: once more as it was. Dying again is the trial's own fault.
- Out of memory: once more in two halves of what was trained side by side, settings or seeds.
- Of several settings that are at fault together, nobody knows whose it was: they run again in
  halves, until each has a state of its own.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import optuna

from harness.planning import Work
from harness.tuning.fusion import Ending, Group, endings, endings_by_death, groups_to_rerun
from harness.tuning.worker_deaths import Death
from reports.contract import Failure, State

# Tries beside the first one after a worker's death; a node that is lost may take many with it.
WORKER_RETRIES = 1
NODE_RETRIES = 5
AGAIN = "; tried again"


@dataclass(frozen=True)
class Given:
    """What a Ray trial is given: works, and Optuna's trial of each one that it proposed.

    deaths, losses: how often a worker died with them, and how often a node was lost.
    halved: it holds a part of a setting's seeds, as all of them took too much memory.
    """

    group: Group
    proposed: tuple[optuna.Trial | None, ...]
    deaths: int = 0
    losses: int = 0
    halved: bool = False

    def beside(self, work: Work, trial: optuna.Trial | None) -> "Given":
        """One work more."""
        return Given((*self.group, work), (*self.proposed, trial))

    def part(self, places: Iterable[int]) -> "Given":
        """Some of its works, tried as often as it was."""
        picked = list(places)
        works = tuple(self.group[place] for place in picked)
        trials = tuple(self.proposed[place] for place in picked)
        return replace(self, group=works, proposed=trials)

    @property
    def fresh(self) -> "Given":
        """The same works as if they had never been tried."""
        return replace(self, deaths=0, losses=0)

    def by_seeds(self) -> list["Given"]:
        """Its only setting in two halves of its seeds; no scheduler judges half a setting."""
        (work,), middle = self.group, len(self.group[0].seeds) // 2
        halves = (work.seeds[:middle], work.seeds[middle:])
        return [
            replace(self.fresh, group=(replace(work, seeds=seeds, judged=False),), halved=True)
            for seeds in halves
        ]


def judge(
    given: Given, last: Mapping[str, Any], pruned: Set[int], death: Death | None
) -> tuple[list[Ending], list[Given]]:
    """What became of each setting of a Ray trial, and what runs again of it.

    Args:
        last: the last result; what is in it does not count where the worker died.
        pruned: places that the scheduler has stopped.
        death: what the worker died of; None: it lives.
    """
    n = len(given.group)
    verdict = None if death is None else endings_by_death(n, death.failure, _reason(given, death))
    ended = endings(n, last, pruned, verdict)
    left = [place for place in range(n) if place not in pruned]
    if death is not None and left:
        once_more = _as_it_was(given, death)
        if once_more is not None:
            return _with_retries(ended, left, _reason(given, death)), [once_more.part(left)]
    if _takes_too_much(given, ended):
        reason = f"{ended[0].reason}{AGAIN} in halves of its seeds"
        return [Ending(State.INTERRUPTED, reason=reason)], given.by_seeds()
    return ended, [given.part(places).fresh for places in groups_to_rerun(ended)]


def _reason(given: Given, death: Death) -> str:
    tries = given.deaths + given.losses
    return f"{death.reason} (try {tries + 1})" if tries else death.reason


def _as_it_was(given: Given, death: Death) -> Given | None:
    """The same once more, None where that has been tried, or would only happen again."""
    if death.failure is Failure.NODE_LOST and given.losses < NODE_RETRIES:
        return replace(given, losses=given.losses + 1)
    halves = len(given.group) > 1 or (len(given.group[0].seeds) > 1 and not given.halved)
    short = death.failure is Failure.OUT_OF_MEMORY and not halves
    if (death.failure is Failure.WORKER_DIED or short) and given.deaths < WORKER_RETRIES:
        return replace(given, deaths=given.deaths + 1)
    return None


def _with_retries(ended: list[Ending], left: list[int], reason: str) -> list[Ending]:
    interrupted = Ending(State.INTERRUPTED, reason=f"{reason}{AGAIN}")
    return [interrupted if place in left else ending for place, ending in enumerate(ended)]


def _takes_too_much(given: Given, ended: list[Ending]) -> bool:
    """Whether a setting alone ran out of memory, and half of its seeds may fit."""
    if len(ended) > 1 or given.halved or len(given.group[0].seeds) < 2:
        return False
    return ended[0].state is State.FAIL and ended[0].failure is Failure.OUT_OF_MEMORY
