"""Early stopping of seeds that are fitted side by side, each by its own held-out loss."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from ship.training import Kept, taken


class EarlyStopping(Kept):
    """Keeps each seed's epoch of the lowest held-out loss; stops it when patience has run out.

    A seed that has stopped is trained on beside the others, as its share of a fused step cannot be
    left out, but to no effect: what it has kept is put back after each epoch.
    """

    def __init__(self, patience: int, warmup: int, n_replicas: int, device: torch.device) -> None:
        """Patience is counted in epochs, behind those of the warm-up."""
        zeros = torch.zeros(n_replicas, dtype=torch.long, device=device)
        super().__init__({"epoch": zeros, "stopped": zeros > 0})
        self._patience, self._warmup = patience, warmup

    @property
    def stopped(self) -> Bool[Tensor, " replica"]:
        """Whose patience has run out."""
        return self.tensors["stopped"]

    def update(self, epoch: int, loss: Tensor, now: Mapping[str, Tensor]) -> None:
        """Take over the seeds that improved; stop those that have not for too long.

        Args:
            epoch: counted from 1.
            loss: held out, (replica,).
            now: what is to be kept of the epoch, (replica, ...) each.
        """
        best = self.tensors.get("loss")
        better = ~self.stopped if best is None else ~self.stopped & (loss < best)
        count = torch.full_like(self.tensors["epoch"], epoch)
        self.take(better, {"epoch": count, "loss": loss, **now})
        waited = epoch - self.tensors["epoch"].clamp(min=self._warmup)
        self.tensors["stopped"] = self.stopped | (waited >= self._patience)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave of as many replicas, on the device."""
        device = self.stopped.device
        for name in ("epoch", "stopped"):
            taken(state, name, self.tensors[name])
        super().load_state_dict({name: value.to(device) for name, value in state.items()})
