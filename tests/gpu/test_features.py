"""Features and gradients on a device, compared with float64 on the CPU."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Conv2d

from ship.architectures import ImagePrecision, Precision
from ship.clip import FrozenCLIP, make_class_prompts
from ship.datasets import ImageDataset
from ship.features import extract_features
from ship.subsets import FeatureSet
from tests.gpu.rounding import (
    GRADIENT,
    OPERATIONS_PER_BLOCK,
    concatenate,
    relative_error,
    tolerance,
)
from tests.ship.clip.test_text_tower import TEXTS, names_of

BLOCKS = 2
PRECISIONS = ("fp32", "tf32", "bf16")

Clips = Callable[..., FrozenCLIP]


def compute_prompt_gradients(clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
    """Return features of learned prompts, packed and separate, and their gradients."""
    dtype = next(clip._model.parameters()).dtype
    rng = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 4, clip.text_width, generator=rng)
    target = torch.randn(clip.feature_dim, generator=rng).to(clip.device, dtype)
    context = normal.to(clip.device, dtype).requires_grad_()
    prompts = make_class_prompts(clip, names_of(9), 4)
    with clip.use_precision():
        packed = clip.text.encode_shared(
            prompts.prefix(context), prompts.names, prompts.host_lengths
        )
        ids = torch.arange(9, device=clip.device).repeat(2)
        plain = clip.text.encode(*prompts.assemble(context.repeat_interleave(9, 0), ids))
        ways = [packed.flatten(0, 1), plain]
        gradients = [torch.autograd.grad((way @ target).sum(), context)[0] for way in ways]
    return concatenate(ways), concatenate(gradients)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_text_features_and_prompt_gradients_equal_float64(
    clips: Clips, device: str, precision: Precision
) -> None:
    """This holds for sentences, packed prompts and separate prompts, within rounding errors."""
    exact = clips(dtype=torch.float64, layers=BLOCKS)
    clip = clips(device=device, precision=precision, layers=BLOCKS)
    with clip.use_precision():
        sentences = clip.encode_texts(TEXTS)
    assert sentences.dtype == torch.float32 and sentences.device.type == device
    allowed = tolerance(precision, BLOCKS)
    assert relative_error(sentences, exact.encode_texts(TEXTS)) < allowed
    features, gradients = compute_prompt_gradients(clip)
    expected = compute_prompt_gradients(exact)
    assert relative_error(features, expected[0]) < allowed
    assert relative_error(gradients, expected[1]) < tolerance(precision, BLOCKS, GRADIENT)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_image_features_equal_float64(clips: Clips, device: str, precision: ImagePrecision) -> None:
    """They are returned in float32 for every precision, and differ by rounding errors only."""
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, clip = clips(dtype=torch.float64, layers=BLOCKS), clips(device=device, layers=BLOCKS)
    clip.image_precision = precision
    try:
        features = clip.encode_images(images)
    finally:
        clip.image_precision = "fp32"
    assert features.dtype == torch.float32
    # one block; the patches and the projection count as another one
    assert relative_error(features, exact.encode_images(images.double())) < tolerance(precision, 2)


def test_features_of_photos_equal_the_cpu(
    tmp_path: Path,
    device: str,
    pocket: Callable[[str], FrozenCLIP],
    photos: ImageDataset,
    photo_features: FeatureSet,
) -> None:
    """Several threads encode photos on the device, and one on the CPU."""
    extracted = extract_features(pocket(device), photos, 1, tmp_path)
    n_convolutions = sum(isinstance(x, Conv2d) for x in pocket(device)._model.visual.modules())
    # each convolution has a norm and an activation
    blocks = math.ceil(3 * n_convolutions / OPERATIONS_PER_BLOCK)
    for split in ("train", "val", "test"):
        features, expected = getattr(extracted, split), getattr(photo_features, split)
        error = np.linalg.norm(features - expected) / np.linalg.norm(expected)
        assert error < 2 * tolerance("fp32", blocks)  # both results are rounded
