"""How many settings of a study are trained side by side: `fuse: auto`, `off` or a number."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from harness.config import Fuse, StudyConfig
from harness.planning import Work, study_prunes
from harness.resources import AnalyticCosts

if TYPE_CHECKING:
    from ship.cost import Memory

logger = logging.getLogger(__name__)

# Replicas (settings times seeds) that are trained faster fused than one by one. A CPU core is kept
# busy by few (tests/bench/PERFORMANCE.md), a GPU by many: that bound is an estimate, not measured.
CPU_REPLICAS, GPU_REPLICAS = 8, 128
# Part of a trial's share of the memory that its tensors may fill: beside them lie the backbone,
# the allocator's gaps, and what the analytic count leaves out.
FILLED = 0.5


@dataclass(frozen=True)
class FusePolicy:
    """Says how many are fused of works that are alike.

    auto: as many as the device gains by and its memory holds, but never so many that a Ray trial
        that could run beside the others has nothing to do; none under a scheduler, as a stopped
        setting frees nothing while the ones beside it go on.

    slots: Ray trials that can run at once.
    replicas: of settings and seeds, the most that are worth it (auto).
    memory: bytes that a Ray trial may take; asked for once, if at all.
    costs: counts the bytes of a trial; None: nobody knows them, and they are not looked at.
    """

    fuse: Fuse
    slots: int
    replicas: int
    memory: Callable[[], float]
    costs: AnalyticCosts | None = None
    _known: dict[tuple[str, int], "Memory | None"] = field(default_factory=dict, repr=False)

    def __call__(self, work: Work, n_alike: int) -> int:
        """Settings in a group, of n like the given one."""
        if self.fuse == "off":
            return 1
        if self.fuse != "auto":
            return min(self.fuse, n_alike)
        busy = -(-n_alike // self.slots)
        largest = max(1, min(busy, self.replicas // len(work.seeds)))
        if largest == 1 or self.costs is None:
            return largest
        room = FILLED * self._room
        return max((n for n in range(2, largest + 1) if self.bytes([work] * n) <= room), default=1)

    def bytes(self, group: Sequence[Work]) -> float:
        """Of the largest step of works that are alike, trained fused; infinite: not known."""
        memory = self._memory_of(group[0])
        return memory.bytes(sum(len(work.seeds) for work in group)) if memory else float("inf")

    def _memory_of(self, work: Work) -> "Memory | None":
        key = work.setting.key, len(work.seeds)
        if key not in self._known:
            self._known[key] = None if self.costs is None else _counted(self.costs, work)
        return self._known[key]

    @cached_property
    def _room(self) -> float:
        try:
            return self.memory()
        except Exception:
            logger.exception("the memory of a trial's device could not be read: nothing is fused")
            return 0.0


def _counted(costs: AnalyticCosts, work: Work) -> "Memory | None":
    """What a work's largest step takes; None: not known, so that it is not fused, that is all."""
    from ship.cost import UnknownCostError

    try:
        return costs.memory(work.setting.config, len(work.seeds))
    except UnknownCostError:  # of a plugin
        return None
    except Exception:
        logger.exception("the memory of %s could not be counted", work.setting.label)
        return None


def fuse_policy(
    study: StudyConfig,
    slots: int,
    *,
    gpu: bool = False,
    memory: Callable[[], float] = lambda: float("inf"),
    costs: AnalyticCosts | None = None,
) -> FusePolicy:
    """The study's policy.

    Args:
        slots: Ray trials that can run at once.
        gpu: whether they have GPUs.
        memory: bytes that a Ray trial may take.
        costs: counts the bytes of a trial.
    """
    worth = GPU_REPLICAS if gpu else CPU_REPLICAS
    replicas = 0 if study_prunes(study) else worth
    return FusePolicy(study.fuse, max(1, slots), replicas, memory, costs)
