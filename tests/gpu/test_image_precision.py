"""Image features in precision fp32 are computed without TF32; their cache key has the device."""

import json
from collections.abc import Callable, Iterator

import pytest
import torch

from ship.architectures import Precision
from ship.clip import FrozenCLIP
from ship.clip.backbone import without_tf32
from tests.ship.conftest import build_clip

Pocket = Callable[[str], FrozenCLIP]


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions, as a user's code may do."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("tf32_allowed")
def test_features_do_not_depend_on_the_processs_tf32_setting(device: str, pocket: Pocket) -> None:
    """They are identical to those without TF32, and the process's settings are restored."""
    clip = pocket(device)
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = clip.encode_images(images)
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.allow_tf32
    with without_tf32():
        assert torch.equal(clip.encode_images(images), features)


def test_only_precision_tf32_allows_tf32_in_a_trial(device: str) -> None:
    """On a GPU, the other precisions forbid it. The process's setting is restored."""
    before = torch.get_float32_matmul_precision()
    expected: dict[Precision, str] = {"tf32": "high", "fp32": "highest", "bf16": "highest"}
    for precision, setting in expected.items():
        clip = build_clip(device=device, precision=precision, layers=1)
        with clip.use_precision():
            allowed = torch.get_float32_matmul_precision()
        assert allowed == (setting if device == "cuda" else before)
        assert torch.get_float32_matmul_precision() == before


def test_cache_key_contains_the_device(device: str) -> None:
    """The key of the CPU has no device. `image_device` overrides it for workers' devices."""
    clip = build_clip(device=device, layers=1)
    assert json.loads(clip.preprocess_id).get("device", "cpu") == device
    clip.image_device = "cuda"
    assert json.loads(clip.preprocess_id)["device"] == "cuda"
    clip.image_precision = "bf16"
    assert json.loads(clip.preprocess_id)["precision"] == "bf16"
