"""Accuracies, what a trial reports while it runs, and which metrics each protocol gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.metrics.hits import ALL, OWN, Hits, right_answers

Stage = Literal[
    "selection_generator", "selection_quality", "selection", "final_generator", "final", "test"
]
ProtocolName = Literal[
    "base_to_new", "few_shot", "cross_dataset", "generalized_zero_shot", "single_unseen"
]

_Halves = Literal[
    "harmonic_mean",
    "base",
    "new",
    "joint_harmonic_mean",
    "joint_base",
    "joint_new",
]
_OneSoftmax = Literal[
    "harmonic_mean",
    "seen",
    "unseen",
    "calibrated_harmonic_mean",
    "calibrated_seen",
    "calibrated_unseen",
    "ausuc",
]
Objective = Literal[_Halves, "accuracy", _OneSoftmax]
_HALVES: Final[tuple[Objective, ...]] = get_args(_Halves)
_ONE_SOFTMAX: Final[tuple[Objective, ...]] = get_args(_OneSoftmax)

# What may be maximised: the metrics of the selection pictures; the first one is the default.
OBJECTIVES: Final[dict[ProtocolName, tuple[Objective, ...]]] = {
    "base_to_new": _HALVES,
    "few_shot": ("accuracy",),
    "cross_dataset": _HALVES,
    "generalized_zero_shot": _ONE_SOFTMAX,
    "single_unseen": _ONE_SOFTMAX,
}
# The same where selection sees pictures of seen classes alone (base_val, few_val).
SEEN_OBJECTIVES: Final[dict[ProtocolName, Objective]] = {
    "base_to_new": "base",
    "few_shot": "accuracy",
    "cross_dataset": "base",
    "generalized_zero_shot": "seen",
    "single_unseen": "seen",
}


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
    """The metrics of one epoch, for every replica of the trial side by side.

    A replica is a seed; where several settings are trained fused, a setting under a seed.

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


def harmonic_mean(
    base: Float[Tensor, "*replica"], new: Float[Tensor, "*replica"]
) -> Float[Tensor, "*replica"]:
    """H = 2BN / (B + N); 0 where both are 0."""
    total = base + new
    return torch.where(total > 0, 2 * base * new / total.clamp_min(1e-12), total)


def score(
    logits: Float[Tensor, "replica n n_cls"],
    labels: Int[Tensor, " n"],
    seen: Bool[Tensor, "replica n_cls"],
    all_seen: bool,
) -> dict[str, Float[Tensor, " replica"]]:
    """Base-to-new and joint accuracies of each replica, in percent.

    base, new: pictures of seen (unseen) classes, told apart among those classes alone, as CoOp's
    base-to-new protocol does. joint_*: one softmax over all classes, as in generalised zero-shot.
    Without any unseen class in `seen`'s universe or pictures of one, only base is given.

    Args:
        logits: class scores of the same pictures under each replica.
        labels: of each picture.
        seen: each replica's seen classes.
        all_seen: whether there is no picture of an unseen class.
    """
    is_seen = seen[:, labels]  # (replica, n)
    if all_seen:
        among_seen = logits.masked_fill(~seen.unsqueeze(1), -torch.inf)
        return {"base": _percent(among_seen.argmax(-1) == labels, is_seen)}
    right = right_answers(logits, labels, seen)
    base, new = (_percent(right[OWN], counted) for counted in (is_seen, ~is_seen))
    joint_base, joint_new = (_percent(right[ALL], counted) for counted in (is_seen, ~is_seen))
    return {
        "base": base,
        "new": new,
        "harmonic_mean": harmonic_mean(base, new),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": harmonic_mean(joint_base, joint_new),
    }


def accuracy(
    logits: Float[Tensor, "replica n n_cls"],
    labels: Int[Tensor, " n"],
    competing: Bool[Tensor, " n_cls"] | None = None,
) -> Float[Tensor, " replica"]:
    """Percent of pictures that are told apart among the competing classes (None: all).

    Args:
        logits: class scores of the same pictures under each replica.
        labels: of each picture.
        competing: classes that may be answered; None: all.
    """
    if competing is not None:
        logits = logits.masked_fill(~competing, -torch.inf)
    right = logits.argmax(-1) == labels
    return _percent(right, torch.ones_like(right))


def _percent(right: Tensor, counted: Tensor) -> Tensor:
    """Percent of the counted pictures that are right, per replica."""
    return 100 * (right & counted).sum(1).double() / counted.sum(1).clamp_min(1)
