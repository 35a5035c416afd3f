"""Accuracies of the base-to-new protocol, and what a trial reports while it runs."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Stage = Literal["selection_generator", "selection", "final_generator", "final", "test"]


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch, for every seed of the trial side by side.

    stage: "selection_generator" and "selection" (fine-tuner) train on what selection may see;
        "final_generator" and "final" retrain on all base classes (pseudo_new only);
        "test" comes once, last.
    epoch: 1-based within its stage (0: before any training).
    progress: fraction of the trial's planned work that is done, 0 to 1.
    per_seed: metric name -> one value a seed, in the order of the trial's seeds. A loss wherever
        something is trained. In stage "selection", at evaluated epochs: base, new, harmonic_mean,
        joint_base, joint_new, joint_harmonic_mean in percent (base_val: base alone). In stage
        "test": the same six names, and each selection value at the chosen epoch as selection_NAME,
        and selection_epoch.
    """

    stage: Stage
    epoch: int
    progress: float
    per_seed: dict[str, tuple[float, ...]] = field(default_factory=dict)


def harmonic_mean(
    base: Float[Tensor, " replica"], new: Float[Tensor, " replica"]
) -> Float[Tensor, " replica"]:
    """H = 2BN / (B + N); 0 where both are 0."""
    total = base + new
    return torch.where(total > 0, 2 * base * new / total.clamp_min(1e-12), total)


def score(
    logits: Float[Tensor, "replica n n_cls"],
    labels: Int[Tensor, " n"],
    seen: Bool[Tensor, "replica n_cls"],
) -> dict[str, Float[Tensor, " replica"]]:
    """Base-to-new and joint accuracies of each replica, in percent.

    base, new: pictures of seen (unseen) classes, told apart among those classes alone, as CoOp's
    base-to-new protocol does. joint_*: one softmax over all classes, as in generalised zero-shot.
    Without any unseen class in `seen`'s universe or pictures of one, only base is given.
    """
    is_seen = seen[:, labels]  # (replica, n)
    base = _accuracy(logits.masked_fill(~seen.unsqueeze(1), -torch.inf), labels, is_seen)
    if bool(is_seen.all()):
        return {"base": base}
    new = _accuracy(logits.masked_fill(seen.unsqueeze(1), -torch.inf), labels, ~is_seen)
    joint_base = _accuracy(logits, labels, is_seen)
    joint_new = _accuracy(logits, labels, ~is_seen)
    return {
        "base": base,
        "new": new,
        "harmonic_mean": harmonic_mean(base, new),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": harmonic_mean(joint_base, joint_new),
    }


def _accuracy(logits: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Percent of the counted pictures whose largest logit is their label, per replica."""
    right = (logits.argmax(-1) == labels) & counted
    return 100 * right.sum(1).double() / counted.sum(1).clamp_min(1)
