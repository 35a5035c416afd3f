"""Which test pictures each replica gets right: what an interval over classes is made from."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Kinds of answers: among the classes of the picture's own kind (seen or unseen), and among all
# classes that compete.
OWN, ALL = "own", "all"


def right_answers(
    logits: Float[Tensor, "replica n n_cls"],
    labels: Int[Tensor, " n"],
    seen: Bool[Tensor, "replica n_cls"],
    competing: Bool[Tensor, " n_cls"] | None = None,
) -> dict[str, Bool[Tensor, "replica n"]]:
    """Whether each picture's largest logit is its label's, by kind of answer.

    Args:
        logits: class scores of the same pictures under each replica.
        labels: of each picture.
        seen: each replica's seen classes.
        competing: the only classes that may be answered; None: all, and then there are answers
            among the picture's own kind of classes, too.
    """
    if competing is not None:
        return {ALL: logits.masked_fill(~competing, -torch.inf).argmax(-1) == labels}
    among_seen = logits.masked_fill(~seen.unsqueeze(1), -torch.inf).argmax(-1)
    among_unseen = logits.masked_fill(seen.unsqueeze(1), -torch.inf).argmax(-1)
    own = torch.where(seen[:, labels], among_seen, among_unseen)
    return {OWN: own == labels, ALL: logits.argmax(-1) == labels}


def packed(right: Bool[Tensor, "replica n"]) -> tuple[bytes, ...]:
    """Each replica's answers as bits (see Hits)."""
    return tuple(np.packbits(row).tobytes() for row in right.cpu().numpy())
