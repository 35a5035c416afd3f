"""What a trial reports while it runs: the metrics of an epoch, and what stops them.

Numbers and names alone, without torch: a driver reads them that never trains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal[
    "selection_generator", "selection_quality", "selection", "final_generator", "final", "test"
]


@dataclass(frozen=True)
class Hits:
    """The right answers on the n test pictures of one exam.

    exam: "" or, where a protocol has several exams, the metric that it gives.
    class_ids: of each picture. class_names: of each id.
    seen: whether the tested model was trained on real pictures of each class.
    right: kind of answer -> a replica's n bits in bytes, the first picture in the highest bit of
        the first byte (numpy's packbits), for each replica.
    """

    exam: str
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    seen: tuple[bool, ...]
    right: dict[str, tuple[bytes, ...]]


class NonFiniteLoss(ValueError):
    """A loss, a logit or a synthetic feature became NaN or infinite: replicas have no result.

    Attributes:
        what: which number it was, and where.
        replicas: whose it was, by their places in the trial.
    """

    def __init__(self, what: str, replicas: Sequence[int]) -> None:
        super().__init__(f"{what}, replicas {', '.join(map(str, replicas))}")
        self.what = what
        self.replicas = tuple(replicas)

    def __reduce__(self) -> tuple[type["NonFiniteLoss"], tuple[str, tuple[int, ...]]]:
        return type(self), (self.what, self.replicas)


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch, for every replica (seed) of the trial side by side.

    stage: "selection_generator" and "selection" (fine-tuner) train on what selection may see
        (selection none has neither);
        "selection_quality" comes once between them, where features are synthesized;
        "final_generator" and "final" retrain on all base classes (pseudo_new and none; once a
        target in cross_dataset); "test" comes once, last.
    epoch: 1-based within its stage (0: before any training).
    progress: fraction of the trial's planned work that is done, 0 to 1.
    per_replica: metric name -> one value a replica, in the trial's order. A loss wherever
        something is trained. In stage "selection", at evaluated epochs, of which 0 (the untrained
        fine-tuner) is the first: the protocol's OBJECTIVES (base_val, few_val: SEEN_OBJECTIVES
        alone). In stage "test": the test metrics, each selection value at the chosen epoch as
        selection_NAME, selection_epoch, quality/NAME of the features synthesized for the tested
        classes, and flag/NAME (0 or 1).

    hits: of stage "test": the right answers on the pictures of each exam (not under selection
        "reference").

    Raises:
        NonFiniteLoss: a value is NaN or infinite.
    """

    stage: Stage
    epoch: int
    progress: float
    per_replica: dict[str, tuple[float, ...]] = field(default_factory=dict)
    hits: tuple[Hits, ...] = ()

    def __post_init__(self) -> None:
        for name, values in self.per_replica.items():
            bad = [place for place, value in enumerate(values) if not math.isfinite(value)]
            if bad:
                raise NonFiniteLoss(
                    f"{name} is not finite at stage {self.stage}, epoch {self.epoch}", bad
                )
