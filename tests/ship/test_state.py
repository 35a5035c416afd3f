"""State of training objects, and the checkpoint file."""

import pytest
import torch
from torch import Tensor, nn

from ship.finetuners.batched import BatchedFinetuner
from ship.seeds import SeedOptimizer, SeedState
from ship.state import Checkpoint, CheckpointError, Stateful, capture, restore
from ship.trial_config import EpochMetrics


def test_nested_state_is_restored() -> None:
    """Names of nested parts are joined by dots; captured tensors are copies."""
    weight = torch.tensor([[1.0, 2.0]])
    part = {"a": weight, "b": {"c": SeedState({"best": torch.tensor([3])})}}
    state = capture(part)
    assert [*state] == ["a", "b.c.best"]
    weight += 1
    restore(part, state)
    assert weight.tolist() == [[1.0, 2.0]]


def test_torch_objects_are_not_stateful() -> None:
    """Their state_dict() has no copies on the CPU. A fine-tuner's has none either."""
    weight = torch.zeros(1, 2, requires_grad=True)
    assert isinstance(SeedOptimizer(torch.optim.SGD, [weight], lr=1.0), Stateful)
    assert not isinstance(torch.optim.SGD([weight], lr=1.0), Stateful)
    assert not issubclass(BatchedFinetuner, Stateful)
    assert not isinstance(nn.Linear(1, 1), Stateful)


def test_format_is_compared_before_other_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other formats may have other fields. The message has both formats."""
    tensors: dict[str, Tensor] = {"a": torch.zeros(2)}
    epochs = (EpochMetrics("test", 1, 1.0),)
    vars(epochs[0])["former_stage"] = vars(epochs[0]).pop("stage")
    with monkeypatch.context() as patch:
        patch.setattr("ship.state.FORMAT", 1)
        former = Checkpoint(epochs, tensors).to_bytes()
    with pytest.raises(CheckpointError, match=r"written in format 1 with torch .* format 3"):
        Checkpoint.from_bytes(former)
    with pytest.raises(CheckpointError, match=r"its metadata is invalid: (.|\n)*stage"):
        Checkpoint.from_bytes(Checkpoint(epochs, tensors).to_bytes())


def test_other_bytes_are_no_checkpoint() -> None:
    """The message has the reason of the safetensors library."""
    with pytest.raises(CheckpointError, match="cannot be read as a safetensors file: "):
        Checkpoint.from_bytes(b"text")
