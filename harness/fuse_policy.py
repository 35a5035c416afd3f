"""How many settings of a study are trained side by side: `fuse: auto`, `off` or a number."""

from dataclasses import dataclass

from harness.options import Fuse
from harness.plan import Work, study_prunes
from harness.study_config import StudyConfig

# Replicas (settings times seeds) that a CPU core trains faster fused than one by one; more of them
# take as long as two trials would (tests/bench/PERFORMANCE.md).
CPU_REPLICAS = 8


@dataclass(frozen=True)
class FusePolicy:
    """Says how many are fused of works that are alike.

    auto: as many as the device gains by, but never so many that a Ray trial that could run
        beside the others has nothing to do; none under a scheduler, as a stopped setting frees
        nothing while the ones beside it go on.

    slots: Ray trials that can run at once.
    replicas: of settings and seeds, the most that are worth it (auto).
    """

    fuse: Fuse
    slots: int
    replicas: int

    def __call__(self, work: Work, n_alike: int) -> int:
        """Settings in a group, of n like the given one."""
        if self.fuse == "off":
            return 1
        if self.fuse != "auto":
            return self.fuse
        busy = -(-n_alike // self.slots)
        return max(1, min(busy, self.replicas // len(work.seeds)))


def fuse_policy(study: StudyConfig, slots: int) -> FusePolicy:
    """The study's policy.

    Args:
        slots: Ray trials that can run at once.
    """
    replicas = 0 if study_prunes(study) else CPU_REPLICAS
    return FusePolicy(study.fuse, max(1, slots), replicas)
