"""What training has changed, taken out of its objects and put back; and a trial's checkpoint.

An object names its parts once (parts()), and both directions follow from that. What its building
gives again (frozen weights, pictures, caches drawn at the start) is no part.

As bytes a checkpoint is one safetensors file whose header holds what is no tensor as JSON, and a
digest of it all: a damaged file is no checkpoint, rather than one that gives other numbers. Nothing
in it is code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ship.trial_config import EpochMetrics

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


Part: TypeAlias = Tensor | Leaf | Mapping[str, "Part"]


def capture(part: Part) -> State:
    """The state of a part and all that it consists of, names joined by dots; copies on the CPU."""
    if isinstance(part, Tensor):
        return {"": copied(part)}
    if isinstance(part, Leaf):
        return part.state_dict()
    found: State = {}
    for name, inner in part.items():
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
    elif isinstance(part, Leaf):
        part.load_state_dict(state)
    else:
        for name, inner in part.items():
            restore(inner, under(state, name))


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


FORMAT = 3
HEADER = "ship"


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial is.

    epochs: all that it has reported, in order.
    tensors: its state by name, on the CPU.
    notes: numbers and texts of whoever keeps the checkpoint, e.g. which trial it is of.
    """

    epochs: tuple[EpochMetrics, ...]
    tensors: Mapping[str, Tensor]
    notes: Mapping[str, str | float] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file; equal checkpoints give equal bytes."""
        said = {
            "format": FORMAT,
            "torch": torch.__version__,
            "notes": dict(self.notes),
            # hits come with the last item, behind which nothing is resumed
            "epochs": [{**vars(item), "hits": ()} for item in self.epochs],
        }
        header = json.dumps(said, sort_keys=True, allow_nan=False)
        tensors = dict(sorted(self.tensors.items()))
        # one text for both: safetensors writes several in an order that chance decides
        metadata = {HEADER: f"{_digest(header, tensors)} {header}"}
        return safetensors.torch.save(tensors, metadata=metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Read what to_bytes wrote.

        Raises:
            CheckpointError: it is damaged, or of another version of torch or of this format.
        """
        try:
            tensors = safetensors.torch.load(data)
            digest, _, header = _header(data).partition(" ")
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"no safetensors file: {error}") from error
        if digest != _digest(header, tensors):
            raise CheckpointError("its content does not match its digest")
        try:
            said = _Header.model_validate_json(header)
        except ValidationError as error:
            raise CheckpointError(f"its header is not ship's: {error}") from error
        if (said.format, said.torch) != (FORMAT, torch.__version__):
            raise CheckpointError(
                f"it is of format {said.format} and torch {said.torch}, not {FORMAT} and "
                f"{torch.__version__}"
            )
        return cls(said.epochs, tensors, said.notes)


class _Header(BaseModel):
    """All that is no tensor."""

    format: int
    torch: str
    notes: dict[str, str | float]
    epochs: tuple[EpochMetrics, ...]


def _header(data: bytes) -> str:
    """What to_bytes wrote into the header of a sound file, which safetensors.torch.load leaves out.

    The format: eight bytes, little-endian, say how long the JSON behind them is.
    """
    held = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return str((held.get("__metadata__") or {}).get(HEADER, ""))


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.blake2b(header.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        # view as bytes: numpy knows no bfloat16
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
