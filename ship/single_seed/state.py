"""The state of objects that were written for one seed: in checkpoints, and stacked for results."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ship.training import CheckpointError, Part, State, copied, taken


class _RandomGenerator:
    """A torch.Generator as a checkpoint holds it."""

    def __init__(self, held: torch.Generator) -> None:
        self._held = held

    def state_dict(self) -> State:
        """Where the stream is."""
        return {"stream": self._held.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go back to where the stream was."""
        try:
            self._held.set_state(taken(state, "stream", self._held.get_state()).clone())
        except RuntimeError as error:
            raise CheckpointError(f"no state of a random stream: {error}") from error


class _Optimizer:
    """A torch optimizer as a checkpoint holds it: rates, and what it remembers of parameters."""

    def __init__(self, held: torch.optim.Optimizer) -> None:
        self._held = held

    def state_dict(self) -> State:
        """Tensors by place of the group or the parameter, and name."""
        groups = self._held.param_groups
        rates = [float(group["lr"]) for group in groups]
        found = {"lr": torch.tensor(rates, dtype=torch.float64)}
        for place, parameter in enumerate(self._parameters()):
            for name, value in self._held.state.get(parameter, {}).items():
                if value is not None:
                    found[f"{place}.{name}"] = copied(torch.as_tensor(value))
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put rates and memory back; the parameters themselves are their module's."""
        groups, parameters = self._held.param_groups, self._parameters()
        like = torch.zeros(len(groups), dtype=torch.float64)
        for group, rate in zip(groups, taken(state, "lr", like).tolist(), strict=True):
            group["lr"] = rate
        self._held.state.clear()
        for key, value in state.items():
            place, _, name = key.partition(".")
            if key == "lr":
                continue
            if not place.isdecimal() or int(place) >= len(parameters):
                raise CheckpointError(f"the optimizer has no parameter {place}")
            parameter = parameters[int(place)]
            if value.ndim and value.shape != parameter.shape:
                raise CheckpointError(f"{name} of parameter {place} has shape {[*value.shape]}")
            device = parameter.device if value.ndim else value.device
            self._held.state[parameter][name] = value.to(device, copy=True)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._held.param_groups for parameter in group["params"]]


def resumable(part: Any) -> Part:
    """A part as ship.training.state saves it and puts it back."""
    if isinstance(part, nn.Module):
        return tensors_of({"": part})
    if isinstance(part, torch.optim.Optimizer):
        return _Optimizer(part)
    if isinstance(part, torch.Generator):
        return _RandomGenerator(part)
    if isinstance(part, Mapping):
        return {str(name): resumable(inner) for name, inner in part.items()}
    found: Part = part
    return found


def tensors_of(learned: Mapping[str, Tensor | nn.Module]) -> dict[str, Tensor]:
    """Every tensor of tensors and modules, by name."""
    found: dict[str, Tensor] = {}
    for name, part in learned.items():
        if isinstance(part, Tensor):
            found[name] = part
            continue
        inner = {**dict(part.named_parameters()), **dict(part.named_buffers())}
        found |= {f"{name}.{key}" if name else key: value for key, value in inner.items()}
    return found


class Rows:
    """One tensor of each seed, as one tensor with a leading replica dimension."""

    def __init__(self, rows: Sequence[Tensor]) -> None:
        self._rows = rows

    def stacked(self) -> Tensor:
        """A detached copy, (replica, ...)."""
        return torch.stack([row.detach() for row in self._rows])

    def state_dict(self) -> State:
        """That copy, on the CPU."""
        return {"": copied(self.stacked())}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put each seed's row back."""
        value = taken(state, "", self.stacked())
        with torch.no_grad():
            for row, own in zip(self._rows, value, strict=True):
                row.copy_(own)


def rows_of(learned: Sequence[Mapping[str, Tensor | nn.Module]]) -> dict[str, Rows]:
    """What all seeds have learned, by name.

    Raises:
        ValueError: seeds differ in the names or the shapes of what they have learned.
    """
    all_tensors = [tensors_of(one) for one in learned]
    first = {name: value.shape for name, value in all_tensors[0].items()}
    for tensors in all_tensors:
        shapes = {name: value.shape for name, value in tensors.items()}
        if shapes != first:
            raise ValueError(
                f"learned() must give every seed the same shapes: {shapes} and {first}"
            )
    return {name: Rows([tensors[name] for tensors in all_tensors]) for name in first}
