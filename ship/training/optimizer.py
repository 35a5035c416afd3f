"""A torch optimizer over parameters whose first dimension is the replicas."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from ship.training.state import CheckpointError, State, copied


class ReplicaOptimizer:
    """A torch optimizer over stacked parameters: a replica takes the very steps it takes alone.

    Only for optimizers that are elementwise (SGD, Adam, AdamW).
    """

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        parameters: Sequence[Float[Tensor, "replica ..."]],
        lr: float,
        factors: Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        """Build it.

        Args:
            kind: makes the inner optimizer of parameter groups and of its `settings`.
            parameters: leaves, stacked along their first dimension.
            lr: learning rate.
            factors: on the learning rate of each parameter; None: 1.
            settings: others of the inner optimizer, such as its momentum.
        """
        self._parameters = list(parameters)
        # one launch a step instead of a dozen; on a CPU the plain loop, whose numbers are on record
        self._fused = any(parameter.device.type != "cpu" for parameter in self._parameters)
        if self._fused and "fused" in inspect.signature(kind).parameters:
            settings["fused"] = True
        own = factors or (1.0,) * len(self._parameters)
        groups = [
            {
                "params": [p for p, mine in zip(self._parameters, own, strict=True) if mine == one],
                "lr": one * lr,
            }
            for one in dict.fromkeys(own)
        ]
        self._inner = kind(groups, **settings)
        self._rates = [float(group["lr"]) for group in self._inner.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self, now: Callable[[float], float] | None = None) -> None:
        """Take a step with the gradients that the parameters hold.

        Args:
            now: of each learning rate as it was set, what it is in this step; None: the same.
        """
        if now is not None:
            for group, rate in zip(self._inner.param_groups, self._rates, strict=True):
                group["lr"] = now(rate)
        self._inner.step()

    def state_dict(self) -> State:
        """What the inner optimizer remembers of each parameter."""
        found = {}
        for place, parameter in enumerate(self._held()):
            for name, value in self._inner.state.get(parameter, {}).items():
                if value is not None:
                    found[f"{place}.{name}"] = copied(value)
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back; the parameters themselves are their owner's."""
        held = self._held()
        for key, value in state.items():
            place, _, name = key.partition(".")
            if not place.isdecimal() or int(place) >= len(held):
                raise CheckpointError(f"the optimizer has no parameter {place}")
            parameter = held[int(place)]
            if value.ndim and value.shape != parameter.shape:
                raise CheckpointError(f"{name} of parameter {place} has shape {[*value.shape]}")
            # a step counter stays on the CPU, where torch keeps it but in a fused step
            device = parameter.device if value.ndim or self._fused else value.device
            self._inner.state[parameter][name] = value.to(device, copy=True)

    def _held(self) -> list[Tensor]:
        return [parameter for group in self._inner.param_groups for parameter in group["params"]]
