"""What training has changed, taken out of its objects and put back: the content of a checkpoint.

An object names its parts once (parts()), and both directions follow from that. What its building
gives again (frozen weights, pictures, caches drawn at the start) is no part.
"""

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from ship.transfer import sent

State = dict[str, Tensor]


class CheckpointError(ValueError):
    """A checkpoint does not fit what is to be resumed, or its content is damaged."""


@runtime_checkable
class Leaf(Protocol):
    """Something with a state of its own making."""

    def state_dict(self) -> State:
        """Its state by name, as copies on the CPU."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave.

        Raises:
            CheckpointError: the state is of something else.
        """


@runtime_checkable
class Resumable(Protocol):
    """Something whose state is that of its parts, even where it has a state_dict of its own.

    A fine-tuner's state_dict is what it has learned, which is less than its next epoch needs.
    """

    def parts(self) -> Mapping[str, "Part"]:
        """What training changes, by name; {}: nothing is trained."""


Part: TypeAlias = "Tensor | Leaf | Resumable | Mapping[str, Part]"


def capture(part: Part) -> State:
    """The state of a part and all that it consists of, names joined by dots; copies on the CPU."""
    if isinstance(part, Tensor):
        return {"": copied(part)}
    if not isinstance(part, Resumable) and isinstance(part, Leaf):
        return part.state_dict()
    found: State = {}
    for name, inner in _inside(part).items():
        for key, value in capture(inner).items():
            found[f"{name}.{key}" if key else name] = value
    return found


def restore(part: Part, state: Mapping[str, Tensor]) -> None:
    """Put back what capture gave of a part that was built in the same way.

    Raises:
        CheckpointError: the state is of something else.
    """
    if isinstance(part, Tensor):
        value = taken(state, "", part)
        with torch.no_grad():
            part.copy_(value)
    elif not isinstance(part, Resumable) and isinstance(part, Leaf):
        part.load_state_dict(state)
    else:
        for name, inner in _inside(part).items():
            restore(inner, under(state, name))


def _inside(part: "Resumable | Mapping[str, Part]") -> Mapping[str, Part]:
    return part.parts() if isinstance(part, Resumable) else part


def under(state: Mapping[str, Tensor], name: str) -> State:
    """The part of a state that belongs to `name`, without that name."""
    found = {key[len(name) + 1 :]: v for key, v in state.items() if key.startswith(f"{name}.")}
    return {"": state[name], **found} if name in state else found


def prefixed(name: str, state: Mapping[str, Tensor]) -> State:
    """A state with `name` and a dot before each of its names, as under() takes it apart."""
    return {f"{name}.{key}": value for key, value in state.items()}


def copied(value: Tensor) -> Tensor:
    """A detached copy on the CPU."""
    return value.detach().to("cpu", copy=True).contiguous()


def copies(state: Mapping[str, Tensor]) -> State:
    """Detached copies on the CPU of all tensors of a state."""
    return {name: copied(value) for name, value in state.items()}


def taken(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """A tensor of a state.

    Args:
        state: tensors by name.
        name: of the tensor.
        like: has the shape and type that it must have.

    Raises:
        CheckpointError: there is none, or it differs from `like` in shape or type.
    """
    value = state.get(name)
    if value is None or value.shape != like.shape or value.dtype != like.dtype:
        held = "nothing" if value is None else f"{value.dtype} {list(value.shape)}"
        raise CheckpointError(f"{name or 'a tensor'} is {held}, not {like.dtype} {[*like.shape]}")
    return value


class Kept:
    """Tensors by name, (replica, ...) each: every replica's as they were when it took them last."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors: State = dict(tensors)

    def take(self, where: Bool[Tensor, " replica"], new: Mapping[str, Tensor]) -> None:
        """Take over some replicas' tensors.

        Args:
            where: those replicas, on the CPU or where the new tensors are.
            new: (replica, ...) each, on any device. A name that was not there is taken for all.
        """
        for name, value in new.items():
            those = sent(where, value.device).reshape(-1, *[1] * (value.ndim - 1))
            # what a checkpoint gave back is on the CPU
            old = self.tensors.get(name, value).to(value.device)
            self.tensors[name] = torch.where(those, value, old)

    def state_dict(self) -> State:
        """The tensors, as copies on the CPU."""
        return copies(self.tensors)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave; it stays on the CPU until it is used."""
        self.tensors = dict(state)
