"""The contract of a fine-tuner, and the one loss that the trained ones share."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ship.training import Part


@runtime_checkable
class Finetuner(Protocol):
    """R fused classifiers over a task's classes, trained on real and synthetic features.

    choices: settings that matter at inference alone, each tried on the selection split
        (never on test); a fine-tuner without any has the one empty choice.
    """

    choices: tuple[Mapping[str, float], ...]

    @property
    def epochs(self) -> int:
        """Training epochs (0: nothing to train)."""

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Train one epoch; mean losses by name."""

    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Class scores of the same pictures under every replica; no gradient.

        A picture's scores are those that it has alone, whatever the others and their order.
        """

    def state_dict(self) -> dict[str, Float[Tensor, "replica ..."]]:
        """What was trained, detached copies."""

    def load_state_dict(self, state: Mapping[str, Float[Tensor, "replica ..."]]) -> None:
        """Put back what state_dict() gave."""

    def parts(self) -> Mapping[str, Part]:
        """What training changes, more than state_dict(): what the next epoch needs."""

    def learned(self) -> Mapping[str, Part]:
        """What logits() reads beside the backbone and the classes, (replica, ...) each.

        One that is built again with this put back gives the same logits. It is more than
        state_dict() where building already took something from pictures.
        """


def classification_loss(
    logits: Float[Tensor, "replica n n_cls"],
    labels: Int[Tensor, "replica n"],
    allowed: Bool[Tensor, "replica n_cls"] | None,
    weights: Float[Tensor, "replica n"] | None = None,
) -> Float[Tensor, " replica"]:
    """Weighted mean cross-entropy of each replica, over the allowed classes (None: over all).

    Args:
        weights: of each row's loss (synthetic.weight); None: all 1.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed.unsqueeze(1), -float("inf"))
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    losses = losses.reshape(labels.shape)
    if weights is None:
        return losses.mean(1)
    return (losses * weights).sum(1) / weights.sum(1)
