"""TensorFloat-32 is switched on for the trials that ask for it, and for nothing else."""

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.ship.conftest import build_clip

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def products(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """What a backbone's training would run in there."""
    clip: Any = SimpleNamespace(device=device, precision=precision)
    return FrozenCLIP.arithmetic(clip)


def test_only_cuda_is_told() -> None:
    """Numbers of a CPU stay what they are, and whatever was set is put back."""
    before = torch.get_float32_matmul_precision()
    with products(CPU, "tf32"):
        assert torch.get_float32_matmul_precision() == before
    with products(CUDA, "tf32"):
        assert torch.get_float32_matmul_precision() == "high"
        with products(CUDA, "fp32"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    with pytest.raises(ZeroDivisionError), products(CUDA, "tf32"):
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == before


def test_a_trial_runs_in_it_and_its_caller_does_not(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two epochs the setting is the process's own."""
    tiny = build_clip()
    clip = FrozenCLIP("tiny", tiny._model, tiny.tokenizer, precision="tf32")
    config = TrialConfig(
        backbone="tiny", dataset="tiny", shots=2, generator="none", selection="none",
        finetuner={"name": "coop", "epochs": 1, "batch_size": 16},
    )  # fmt: skip
    seen = []
    monkeypatch.setattr(clip, "arithmetic", lambda: products(CUDA, clip.precision))
    real = clip.text.encode_shared

    def encode(*args: Any) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return real(*args)

    monkeypatch.setattr(clip.text, "encode_shared", encode)
    for _ in run_trial(config, [0], features, clip):
        assert torch.get_float32_matmul_precision() == "highest"
    assert set(seen) == {"high"}
