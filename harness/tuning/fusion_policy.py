"""How many settings of a study are trained side by side: `fuse: auto`, `off` or a number."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from harness.config import Fuse, StudyConfig
from harness.planning import Work, study_prunes
from harness.resources import CountedCosts

logger = logging.getLogger(__name__)

# Replicas (settings times seeds) that are trained faster fused than one by one. A CPU core is kept
# busy by few (tests/bench/PERFORMANCE.md), a GPU by many: that bound is an estimate, not measured.
CPU_REPLICAS, GPU_REPLICAS = 8, 128
# Part of a trial's share of the memory that its tensors may fill: beside them lie the backbone
# and the allocator's gaps.
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
    costs: CountedCosts | None = None
    _known: dict[str, float] = field(default_factory=dict, repr=False)

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
        """What works that are alike hold at most, trained fused; infinite: not known."""
        return self._each(group[0]) * sum(len(work.seeds) for work in group)

    def _each(self, work: Work) -> float:
        """Of one replica."""
        key = work.setting.key
        if key not in self._known:
            self._known[key] = math.inf if self.costs is None else _counted(self.costs, work)
        return self._known[key]

    @cached_property
    def _room(self) -> float:
        try:
            return self.memory()
        except Exception:
            logger.exception("the memory of a trial's device could not be read: nothing is fused")
            return 0.0


def _counted(costs: CountedCosts, work: Work) -> float:
    """Bytes of one replica; infinite: not known, so that it is not fused, that is all."""
    try:
        return costs.memory(work.setting.config)
    except Exception:
        logger.exception("the memory of %s could not be counted", work.setting.label)
        return math.inf


def fuse_policy(
    study: StudyConfig,
    slots: int,
    *,
    gpu: bool = False,
    memory: Callable[[], float] = lambda: float("inf"),
    costs: CountedCosts | None = None,
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
