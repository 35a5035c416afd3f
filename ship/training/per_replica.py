"""Settings trained side by side: replicas that differ in a loss's factor or an optimizer's step.

A field marked PER_REPLICA (ship.settings) multiplies a loss or a step, elementwise, so that
replicas which differ in nothing else run through the same arithmetic, each with its own value. A
field without the mark shapes that arithmetic (sizes, epochs, data), and all replicas of a trial
share it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from ship.training.state import CheckpointError, State, copied, taken

Config = TypeVar("Config")


def each_replica(config: Config | Sequence[Config], n_replicas: int) -> tuple[Config, ...]:
    """Every replica's settings, from one for all of them or one for each.

    Raises:
        ValueError: there are not as many as replicas.
    """
    if not isinstance(config, Sequence):
        return (config,) * n_replicas
    if len(config) != n_replicas:
        raise ValueError(f"there must be settings for {n_replicas} replicas, got {len(config)}")
    return tuple(config)


def per_replica(
    configs: Sequence[object], name: str, like: Tensor
) -> float | Float[Tensor, " replica"]:
    """A field's value: one number where all replicas have the same, else one for each.

    Args:
        configs: of each replica.
        like: a tensor of the device and precision that is wanted.
    """
    values = [float(getattr(config, name)) for config in configs]
    return values[0] if len(set(values)) == 1 else like.new_tensor(values)


class ReplicaOptimizer:
    """A torch optimizer over stacked parameters, whose settings may differ between replicas.

    Only for optimizers that are elementwise (SGD, Adam, AdamW). Where settings differ, the inner
    optimizer holds slices of the parameters, which share their memory, in a group for each
    setting: a replica takes the very steps that the optimizer alone would take with its settings.
    """

    def __init__(
        self,
        kind: Callable[..., Optimizer],
        parameters: Sequence[Float[Tensor, "replica ..."]],
        configs: Sequence[object],
        fields: Sequence[str] = ("lr",),
        factors: Sequence[float] | None = None,
        **shared: Any,
    ) -> None:
        """Build it.

        Args:
            kind: makes the inner optimizer of parameter groups and of what is `shared`.
            parameters: leaves, stacked along their first dimension.
            configs: of each replica.
            fields: of configs, named as the optimizer names them.
            factors: on the learning rate of each parameter; None: 1.
            shared: settings of all replicas.
        """
        self._wholes = list(parameters)
        # one launch a step instead of a dozen; on a CPU the plain loop, whose numbers are on record
        self._fused = any(whole.device.type != "cpu" for whole in self._wholes)
        if self._fused:
            shared["fused"] = True
        self._slices: list[tuple[Tensor, Tensor, slice]] = []  # whole, its slice, which rows
        settings = [{name: getattr(config, name) for name in fields} for config in configs]
        runs = [(values, len(list(run))) for values, run in groupby(settings)]
        groups, start = [], 0
        for values, count in runs:
            held = self._wholes if len(runs) == 1 else self._slice(slice(start, start + count))
            start += count
            for factor, members in _by_factor(held, factors):
                rates = {"lr": factor * values["lr"]} if factors else {}
                groups.append({"params": members, **values, **rates})
        self._inner = kind(groups, **shared)
        self._rates = [float(group["lr"]) for group in self._inner.param_groups]

    def _slice(self, rows: slice) -> list[Tensor]:
        made = [(whole, whole.detach()[rows], rows) for whole in self._wholes]
        self._slices += made
        return [part for _, part, _ in made]

    def scale_rates(self, factor: float) -> None:
        """Multiply all learning rates, which are kept in double precision."""
        self._set_rates([factor * rate for rate in self._rates])

    def _set_rates(self, rates: Sequence[float]) -> None:
        self._rates = list(rates)
        for group, rate in zip(self._inner.param_groups, self._rates, strict=True):
            group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for whole in self._wholes:
            whole.grad = None

    def step(self) -> None:
        """Take a step with the gradients that the parameters hold."""
        for whole, part, rows in self._slices:
            part.grad = None if whole.grad is None else whole.grad[rows]
        self._inner.step()

    def state_dict(self) -> State:
        """Learning rates, and what the inner optimizer remembers of each parameter."""
        found = {"lr": torch.tensor(self._rates, dtype=torch.float64)}
        for place, parameter in enumerate(self._held()):
            for name, value in self._inner.state.get(parameter, {}).items():
                if value is not None:
                    found[f"{place}.{name}"] = copied(value)
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back rates and memory; the parameters themselves are their owner's."""
        rates = taken(state, "lr", torch.zeros(len(self._rates), dtype=torch.float64))
        held = self._held()
        for key, value in state.items():
            place, _, name = key.partition(".")
            if key == "lr":
                continue
            if not place.isdecimal() or int(place) >= len(held):
                raise CheckpointError(f"the optimizer has no parameter {place}")
            parameter = held[int(place)]
            if value.ndim and value.shape != parameter.shape:
                raise CheckpointError(f"{name} of parameter {place} has shape {[*value.shape]}")
            # a step counter stays on the CPU, where torch keeps it but in a fused step
            device = parameter.device if value.ndim or self._fused else value.device
            self._inner.state[parameter][name] = value.to(device, copy=True)
        self._set_rates(rates.tolist())

    def _held(self) -> list[Tensor]:
        return [parameter for group in self._inner.param_groups for parameter in group["params"]]


def _by_factor(
    parameters: Sequence[Tensor], factors: Sequence[float] | None
) -> Iterator[tuple[float, list[Tensor]]]:
    """Each factor once, with the parameters that have it."""
    own = factors or (1.0,) * len(parameters)
    for factor in dict.fromkeys(own):
        yield factor, [p for p, mine in zip(parameters, own, strict=True) if mine == factor]


def settings_of(configs: Sequence[Any], group: str) -> Any:
    """A group's settings: one where all replicas have the same, else one for each."""
    found = [getattr(config, group) for config in configs]
    return found[0] if all(one == found[0] for one in found) else found
