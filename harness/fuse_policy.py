"""How many settings of a study are trained side by side: `fuse: auto`, `off` or a number."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from harness.costs import AnalyticCosts
from harness.options import Fuse
from harness.plan import Work, study_prunes
from harness.study_config import StudyConfig

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

    def __call__(self, work: Work, n_alike: int) -> int:
        """Settings in a group, of n like the given one."""
        if self.fuse == "off":
            return 1
        if self.fuse != "auto":
            return self.fuse
        busy = -(-n_alike // self.slots)
        most = max(1, min(busy, self.replicas // len(work.seeds)))
        while most > 1 and self.costs and not self.bytes(work, most) <= FILLED * self._room:
            most -= 1
        return most

    def bytes(self, work: Work, n_settings: int = 1) -> float:
        """Of the largest step of so many settings like the given one; infinite: not known."""
        if self.costs is None:
            return 0.0
        try:
            memory = self.costs.memory(work.setting.config, len(work.seeds))
        except (KeyError, ValueError, OSError):
            logger.exception("the memory of a trial could not be counted: it is not fused")
            return float("inf")
        return memory.bytes(n_settings * len(work.seeds))

    @cached_property
    def _room(self) -> float:
        return self.memory()


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
