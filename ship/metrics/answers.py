"""What the logits of an exam's pictures answer: read once, for all numbers made of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Logits that are looked at in one go: what is made of them on the way fits a processor's cache.
AT_ONCE = 2**18


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of each replica to the same n pictures.

    Each property is of one number a picture, made when it is first asked for, and kept; what it
    takes beside the logits is small. A picture's own kind are the seen classes, or the unseen
    ones, whichever its class is of.

    logits: class scores under each replica.
    labels: of each picture.
    seen: each replica's seen classes.
    competing: the only classes that may be answered; None: all.
    """

    logits: Float[Tensor, "replica n n_cls"]
    labels: Int[Tensor, " n"]
    seen: Bool[Tensor, "replica n_cls"]
    competing: Bool[Tensor, " n_cls"] | None = None

    @cached_property
    def is_seen(self) -> Bool[Tensor, "replica n"]:
        """Whether the picture's class is a seen one."""
        return self.seen[:, self.labels]

    @cached_property
    def right(self) -> Bool[Tensor, "replica n"]:
        """Whether the largest logit of all that compete is that of the picture's class."""
        if self.competing is not None:
            return self._answer(self.competing.unsqueeze(0)) == self.labels
        return self._each(lambda logits, rows: logits.argmax(-1)) == self.labels

    @cached_property
    def own_right(self) -> Bool[Tensor, "replica n"]:
        """Whether the largest logit among its own kind is that of the picture's class."""
        own = torch.where(self.is_seen, self._answer(self.seen), self._answer(~self.seen))
        return own == self.labels

    @property
    def margin(self) -> Float[Tensor, "replica n"]:
        """Largest logit of a seen class less that of an unseen one (inf: there is none)."""
        return self._seen_largest.double() - self._unseen_largest.double()

    @property
    def likeness(self) -> Float[Tensor, "replica n"]:
        """ln of the largest probability of a seen class, one softmax over all classes."""
        total = self._each(lambda logits, rows: logits.logsumexp(-1))
        return self._seen_largest.double() - total.double()

    @property
    def confidence(self) -> Float[Tensor, "replica n"]:
        """The largest probability, one softmax over the classes of the picture's own kind."""
        largest = torch.where(self.is_seen, self._seen_largest, self._unseen_largest)
        unseen = (~self.seen).to(largest).unsqueeze(1)

        def total(logits: Tensor, rows: slice) -> Tensor:
            # logsumexp of the own kind: exp of -inf takes several times as long as of a number
            own = (unseen - self.is_seen[:, rows].to(largest).unsqueeze(2)).abs_()
            top = largest[:, rows].unsqueeze(2)
            parts = (logits - top).clamp_max_(0).exp_().mul_(own)
            return parts.sum(-1).log_().add_(top.squeeze(2))

        return (largest - self._each(total)).double().exp()

    @property
    def finite(self) -> Bool[Tensor, " replica"]:
        """Whether no logit is NaN or infinite; no value is read on the host."""
        # a comparison with NaN, which is the extreme of what it is among, never holds
        low, high = self.logits.amin((1, 2)), self.logits.amax((1, 2))
        return (low > -torch.inf) & (high < torch.inf)

    @cached_property
    def _seen_largest(self) -> Float[Tensor, "replica n"]:
        barred = _barred(self.seen)
        return self._each(lambda logits, rows: (logits + barred).amax(-1))

    @cached_property
    def _unseen_largest(self) -> Float[Tensor, "replica n"]:
        barred = _barred(~self.seen)
        return self._each(lambda logits, rows: (logits + barred).amax(-1))

    def _answer(self, classes: Bool[Tensor, "_ n_cls"]) -> Int[Tensor, "replica n"]:
        """Which of some classes has the largest logit.

        Args:
            classes: of each replica, or of all.
        """
        barred = _barred(classes)
        return self._each(lambda logits, rows: (logits + barred).argmax(-1))

    def _each(self, of: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """What a function makes of each picture's logits, (replica, n).

        Args:
            of: takes the logits of m pictures, (replica, m, n_cls), and which pictures these are;
                gives (replica, m).
        """
        n_replicas, n, n_cls = self.logits.shape
        size = max(1, AT_ONCE // max(1, n_replicas * n_cls))
        if n <= size:
            return of(self.logits, slice(0, n))
        parts = [slice(start, start + size) for start in range(0, n, size)]
        return torch.cat([of(self.logits[:, rows], rows) for rows in parts], dim=1)


def _barred(classes: Bool[Tensor, "r n_cls"]) -> Float[Tensor, "r 1 n_cls"]:
    """0 for some classes, -inf for the others: faster added to logits than chosen among them."""
    return torch.where(classes, 0.0, -torch.inf).unsqueeze(1)


def harmonic_mean(
    base: Float[Tensor, "*replica"], new: Float[Tensor, "*replica"]
) -> Float[Tensor, "*replica"]:
    """H = 2BN / (B + N); 0 where both are 0."""
    total = base + new
    return torch.where(total > 0, 2 * base * new / total.clamp_min(1e-12), total)


def score(answers: Answers, all_seen: bool) -> dict[str, Float[Tensor, " replica"]]:
    """Base-to-new and joint accuracies of each replica, in percent.

    base, new: pictures of seen (unseen) classes, told apart among those classes alone, as CoOp's
    base-to-new protocol does. joint_*: one softmax over all classes, as in generalised zero-shot.

    Args:
        answers: to the pictures.
        all_seen: whether there is no picture of an unseen class: only base is given.
    """
    counted = answers.is_seen
    base = percent(answers.own_right, counted)
    if all_seen:
        return {"base": base}
    new = percent(answers.own_right, ~counted)
    joint_base, joint_new = (percent(answers.right, kind) for kind in (counted, ~counted))
    return {
        "base": base,
        "new": new,
        "harmonic_mean": harmonic_mean(base, new),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": harmonic_mean(joint_base, joint_new),
    }


def percent(
    right: Bool[Tensor, "replica n"], counted: Bool[Tensor, "replica n"]
) -> Float[Tensor, " replica"]:
    """Percent of the counted pictures that are right, per replica."""
    return 100 * (right & counted).sum(1).double() / counted.sum(1).clamp_min(1)


def packed(right: Bool[Tensor, "replica n"]) -> tuple[bytes, ...]:
    """Each replica's answers as bits (see Hits)."""
    return tuple(np.packbits(row).tobytes() for row in right.cpu().numpy())
