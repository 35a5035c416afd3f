"""A trial's checkpoint: what has been reported, and the tensors that the next epoch needs.

As bytes it is one safetensors file whose header holds the rest as JSON, and a digest of it all: a
damaged file is no checkpoint, rather than one that gives other numbers. Nothing in it is code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ship.epoch_metrics import EpochMetrics
from ship.training.state import CheckpointError

FORMAT = 3
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
        metadata = _metadata(data)
        digest, _, header = metadata.get(HEADER, "").partition(" ")
        try:
            tensors = safetensors.torch.load(data)
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
