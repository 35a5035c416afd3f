"""Checkpoints of a trial: capture, save and restore the state that training changes.

Fine-tuners and generators have a method parts(), which returns the state that training changes.
capture() and restore() both take its result. The state excludes everything that is reproduced when
the object is built again: frozen weights, images, features drawn at the start.

A checkpoint is one safetensors file. Its metadata contains all values other than tensors as JSON,
and a digest of the whole content, so that a damaged file is rejected instead of altering results.
Nothing in a checkpoint is executed.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ship.trial_config import EpochMetrics

State = dict[str, Tensor]


class CheckpointError(ValueError):
    """A checkpoint does not fit the trial to resume, or its content is damaged."""


class Stateful(ABC):
    """Base class of objects that capture and restore their own state.

    Modules and optimizers of torch have the same methods, but their state_dict() returns the
    tensors themselves, not copies.
    """

    @abstractmethod
    def state_dict(self) -> State:
        """Return the state by name, as copies on the CPU."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of state_dict().

        Raises:
            CheckpointError: The state does not fit the object.
        """


# State to capture: a tensor, an object that captures its own state, or parts by name.
Part: TypeAlias = Tensor | Stateful | Mapping[str, "Part"]


def capture(part: Part) -> State:
    """Return the state of a part and its inner parts by name, as copies on the CPU.

    A name consists of the names of nested parts, joined by dots. The name of a single tensor is "".
    """
    if isinstance(part, Tensor):
        return {"": copy_to_cpu(part)}
    if isinstance(part, Stateful):
        return part.state_dict()
    state: State = {}
    for name, inner in part.items():
        for key, value in capture(inner).items():
            state[f"{name}.{key}" if key else name] = value
    return state


def restore(part: Part, state: Mapping[str, Tensor]) -> None:
    """Restore the result of capture() into a part that was built in the same way.

    Raises:
        CheckpointError: The state does not fit the part.
    """
    if isinstance(part, Tensor):
        value = require_tensor(state, "", part)
        with torch.no_grad():
            part.copy_(value)
    elif isinstance(part, Stateful):
        part.load_state_dict(state)
    else:
        for name, inner in part.items():
            restore(inner, strip_prefix(state, name))


def strip_prefix(state: Mapping[str, Tensor], name: str) -> State:
    """Return the entries of a state whose names begin with `name` and a dot, without this prefix.

    An entry named exactly `name` gets the name "".
    """
    inner = {key[len(name) + 1 :]: v for key, v in state.items() if key.startswith(f"{name}.")}
    return {"": state[name], **inner} if name in state else inner


def add_prefix(name: str, state: Mapping[str, Tensor]) -> State:
    """Prepend `name` and a dot to each name of a state. strip_prefix() is the inverse."""
    return {f"{name}.{key}": value for key, value in state.items()}


def copy_to_cpu(value: Tensor) -> Tensor:
    """Return a detached copy on the CPU."""
    return value.detach().to("cpu", copy=True).contiguous()


def require_tensor(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return a tensor of a state after checking its shape and type.

    Args:
        state: Tensors by name.
        name: Name of the tensor.
        like: Tensor of the expected shape and type.

    Raises:
        CheckpointError: The tensor is missing, or differs from `like` in shape or type.
    """
    value = state.get(name)
    if value is None or value.shape != like.shape or value.dtype != like.dtype:
        actual = "nothing" if value is None else f"{value.dtype} {list(value.shape)}"
        expected = f"{like.dtype} {[*like.shape]}"
        raise CheckpointError(f"{name or 'a tensor'} must be {expected}, got {actual}")
    return value


FORMAT = 3
"""Version of the checkpoint format."""
METADATA_KEY = "ship"
"""Key in the metadata of a safetensors file. Its value is the digest, a space and the JSON text."""


@dataclass(frozen=True)
class Checkpoint:
    """The progress of a trial.

    Attributes:
        epochs: Metrics of all epochs reported so far, in order.
        tensors: State by name, on the CPU.
        notes: Further numbers and texts, e.g. the ID of the trial.
    """

    epochs: tuple[EpochMetrics, ...]
    tensors: Mapping[str, Tensor]
    notes: Mapping[str, str | float] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the content of the file. Equal checkpoints have equal bytes."""
        fields = {
            "format": FORMAT,
            "torch": torch.__version__,
            "notes": dict(self.notes),
            # Predictions are omitted: only the last epoch has them. No trial is resumed after it.
            "epochs": [{**vars(item), "correct_predictions": ()} for item in self.epochs],
        }
        text = json.dumps(fields, sort_keys=True, allow_nan=False)
        tensors = dict(sorted(self.tensors.items()))
        # digest and JSON text share one key, because safetensors writes several in random order
        metadata = {METADATA_KEY: f"{_compute_digest(text, tensors)} {text}"}
        return safetensors.torch.save(tensors, metadata=metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Read the content of a file written by to_bytes.

        Raises:
            CheckpointError: The file is damaged, or was written by another version of torch or in
                another format.
        """
        try:
            tensors = safetensors.torch.load(data)
            digest, _, text = _read_metadata(data).partition(" ")
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"it cannot be read as a safetensors file: {error}") from error
        if digest != _compute_digest(text, tensors):
            raise CheckpointError("its content does not match its digest")
        try:
            versions = _Versions.model_validate_json(text)
            if (versions.format, versions.torch) != (FORMAT, torch.__version__):
                raise CheckpointError(
                    f"it was written in format {versions.format} with torch {versions.torch}, but "
                    f"this process reads format {FORMAT} with torch {torch.__version__}"
                )
            fields = _Fields.model_validate_json(text)  # other formats have other fields
        except ValidationError as error:
            raise CheckpointError(f"its metadata is invalid: {error}") from error
        return cls(fields.epochs, tensors, fields.notes)


class _Versions(BaseModel):
    """Versions with which a checkpoint was written."""

    format: int
    torch: str


class _Fields(_Versions):
    """All values of a checkpoint other than tensors."""

    notes: dict[str, str | float]
    epochs: tuple[EpochMetrics, ...]


def _read_metadata(data: bytes) -> str:
    """Return the metadata that to_bytes wrote; safetensors.torch.load does not return it.

    A safetensors file starts with the length of a JSON object, as eight little-endian bytes. The
    object follows; its entry "__metadata__" contains the metadata.
    """
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return str((header.get("__metadata__") or {}).get(METADATA_KEY, ""))


def _compute_digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        # viewed as bytes because numpy has no bfloat16
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
