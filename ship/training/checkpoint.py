"""A trial's checkpoint: what has been reported, and the tensors that the next epoch needs.

As bytes it is one safetensors file whose header holds the rest as JSON, and a digest of it all: a
damaged file is no checkpoint, rather than one that gives other numbers. Nothing in it is code.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ship.epoch_metrics import EpochMetrics, Stage
from ship.training.state import CheckpointError

FORMAT = 2
HEADER = "ship"


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial is.

    epochs: all that it has reported, in order.
    tensors: its state by name, on the CPU (ship.training.state).
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
            "epochs": [
                [item.stage, item.epoch, item.progress, item.per_replica] for item in self.epochs
            ],
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
        metadata = _metadata(data)
        digest, _, header = metadata.get(HEADER, "").partition(" ")
        try:
            tensors = safetensors.torch.load(data)
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"no safetensors file: {error}") from error
        if digest != _digest(header, tensors):
            raise CheckpointError("its content does not match its digest")
        said = _parsed(header)
        for name, wanted in (("format", FORMAT), ("torch", torch.__version__)):
            if said.get(name) != wanted:
                raise CheckpointError(f"it is of {name} {said.get(name)}, not {wanted}")
        return cls(_epochs(said.get("epochs")), tensors, _notes(said.get("notes")))


def _metadata(data: bytes) -> Mapping[str, str]:
    """The texts in a safetensors file's header, which safetensors.torch.load leaves out.

    The format: eight bytes, little-endian, say how long the JSON behind them is.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise CheckpointError("it is cut short")
    try:
        held = json.loads(data[8 : 8 + length])
        metadata = held["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError("it has no readable header") from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError("its header is not ship's")
    return metadata


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.blake2b(header.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        # view as bytes: numpy knows no bfloat16
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _parsed(header: str) -> Mapping[str, Any]:
    try:
        said = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise CheckpointError("its header is no JSON") from error
    if not isinstance(said, dict):
        raise CheckpointError("its header is not ship's")
    return said


def _notes(said: Any) -> dict[str, str | float]:
    if not isinstance(said, dict) or not all(
        isinstance(value, str | float | int) for value in said.values()
    ):
        raise CheckpointError("its notes are not ship's")
    return said


def _epochs(said: Any) -> tuple[EpochMetrics, ...]:
    if not isinstance(said, list):
        raise CheckpointError("it does not say what was reported")
    return tuple(map(_epoch, said))


def _epoch(said: Any) -> EpochMetrics:
    try:
        stage, epoch, progress, metrics = said
        per_replica = {str(name): _values(values) for name, values in metrics.items()}
        fits = stage in get_args(Stage) and isinstance(epoch, int) and 0 <= progress <= 1
        if fits and len(set(map(len, per_replica.values()))) <= 1:
            return EpochMetrics(stage, epoch, float(progress), per_replica)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError("what it says was reported is not ship's") from error
    raise CheckpointError("what it says was reported is not ship's")


def _values(said: Sequence[Any]) -> tuple[float, ...]:
    values = tuple(float(value) for value in said)
    if not all(map(math.isfinite, values)):
        raise ValueError("a metric is not finite")
    return values
