"""Accuracies of a protocol with two halves, or with one kind of classes, of each replica."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.metrics.hits import ALL, OWN, right_answers


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
