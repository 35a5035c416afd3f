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
            return self._among(self.competing.unsqueeze(0), torch.argmax) == self.labels
        return self._each(lambda logits, rows: logits.argmax(-1)) == self.labels

    @cached_property
    def own_right(self) -> Bool[Tensor, "replica n"]:
        """Whether the largest logit among its own kind is that of the picture's class."""
        seen, unseen = (self._among(own, torch.argmax) for own in (self.seen, ~self.seen))
        return torch.where(self.is_seen, seen, unseen) == self.labels

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
        return self._among(self.seen, torch.amax)

    @cached_property
    def _unseen_largest(self) -> Float[Tensor, "replica n"]:
        return self._among(~self.seen, torch.amax)

    def _among(self, classes: Bool[Tensor, "_ n_cls"], of: Callable[..., Tensor]) -> Tensor:
        """The largest logit among some classes, or whose it is, (replica, n).

        Args:
            classes: of each replica, or of all.
            of: torch.amax or torch.argmax.
        """
        # -inf is faster added to the logits of the others than numbers chosen among them
        barred = torch.where(classes, 0.0, -torch.inf).unsqueeze(1)
        return self._each(lambda logits, rows: of(logits + barred, -1))

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


def packed(right: Bool[Tensor, "replica n"]) -> tuple[bytes, ...]:
    """Each replica's answers as bits (see ship.epoch_metrics.Hits)."""
    return tuple(np.packbits(row).tobytes() for row in right.cpu().numpy())
