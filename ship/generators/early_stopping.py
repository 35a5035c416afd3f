"""Early stopping of fused replicas, each by its own held-out loss."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ship.training import State, copied, copies, prefixed, taken, under


class EarlyStopping:
    """Keeps each replica's parameters at its best epoch; stops it when patience has run out.

    A replica that has stopped is trained on beside the others, as its share of a fused step cannot
    be left out, but from its kept parameters and to no effect: load() puts them back.

    Attributes:
        stopped: (replica,).
    """

    def __init__(self, patience: int, warmup: int, n_replicas: int, device: torch.device) -> None:
        """Patience is counted in epochs, from the end of the KL warm-up at the earliest."""
        self._patience = patience
        self._warmup = warmup
        self._best = torch.full((n_replicas,), torch.inf, device=device)
        self._best_epoch = torch.zeros(n_replicas, dtype=torch.long, device=device)
        self._parameters: dict[str, Tensor] = {}
        self._metrics: dict[str, Tensor] = {}
        self.stopped: Bool[Tensor, " replica"] = torch.zeros(
            n_replicas, dtype=torch.bool, device=device
        )

    def update(
        self,
        epoch: int,
        loss: Float[Tensor, " replica"],
        network: nn.Module,
        metrics: Mapping[str, Float[Tensor, " replica"]],
    ) -> None:
        """Take over the replicas that improved; stop those that have not for too long.

        Args:
            epoch: counted from 1.
            loss: held out, at the network's present parameters.
            metrics: of this epoch, kept with the parameters.
        """
        loss = loss.to(self._best)
        better = (loss < self._best) & ~self.stopped
        if not self._parameters:
            better = torch.ones_like(self.stopped)
        self._best = torch.where(better, loss, self._best)
        self._best_epoch = torch.where(better, epoch, self._best_epoch)
        state = {name: value.detach() for name, value in network.named_parameters()}
        self._parameters = _take(better, state, self._parameters)
        self._metrics = _take(better, metrics, self._metrics)
        waited = epoch - self._best_epoch.clamp(min=self._warmup)
        self.stopped = self.stopped | (waited >= self._patience)

    def reported(
        self, metrics: Mapping[str, Float[Tensor, " replica"]], over: Bool[Tensor, " replica"]
    ) -> dict[str, Float[Tensor, " replica"]]:
        """An epoch's metrics; of replicas whose training is over, those of their best epoch."""
        return _take(~over, metrics, self._metrics)

    @torch.no_grad()
    def load(self, network: nn.Module, which: Bool[Tensor, " replica"]) -> None:
        """Put the kept parameters of the given replicas into the network."""
        for name, value in network.named_parameters():
            value.copy_(_where(which, self._parameters[name], value))

    def state_dict(self) -> State:
        """The best epochs, their parameters and metrics, and who has stopped."""
        return {
            "best": copied(self._best),
            "best_epoch": copied(self._best_epoch),
            "stopped": copied(self.stopped),
            **prefixed("parameters", copies(self._parameters)),
            **prefixed("metrics", copies(self._metrics)),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave, on the device of the network."""
        device = self._best.device
        self._best = taken(state, "best", self._best).to(device)
        self._best_epoch = taken(state, "best_epoch", self._best_epoch).to(device)
        self.stopped = taken(state, "stopped", self.stopped).to(device)
        self._parameters = {n: v.to(device) for n, v in under(state, "parameters").items()}
        self._metrics = {n: v.to(device) for n, v in under(state, "metrics").items()}


def _take(which: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Per replica, the new tensors where `which`, the old ones elsewhere."""
    return {name: _where(which, value, old.get(name, value)) for name, value in new.items()}


def _where(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(which.reshape(-1, *[1] * (new.ndim - 1)), new, old)
