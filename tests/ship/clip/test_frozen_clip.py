"""Backbones are loaded, unusable names are rejected, and fingerprints follow the weights."""

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from torch import nn

from ship.architectures import BackboneError
from ship.clip import FrozenCLIP, check_backbone_name
from ship.clip.weights import hash_model
from tests.case_files import load_cases
from tests.ship.conftest import backbones, build_clip

NAMES = load_cases(__file__, "names.yaml")


@pytest.mark.parametrize(("name", "message"), NAMES["unknown"].items())
def test_unknown_backbone_is_rejected_in_one_line(name: str, message: str) -> None:
    """The message has the name and the choices in one line."""
    with pytest.raises(BackboneError, match=message) as caught:
        check_backbone_name(name)
    assert "\n" not in str(caught.value)
    assert not ("no such file" in message and "choices" in str(caught.value))


@pytest.mark.parametrize(("name", "reason"), NAMES["undrivable"].items())
def test_unsupported_architecture_is_rejected_without_weights(name: str, reason: str) -> None:
    """The message has the name and the reason; no weights are loaded."""
    with pytest.raises(BackboneError, match="whose text tower accepts prompt embeddings") as caught:
        FrozenCLIP.load(name)
    assert name in str(caught.value) and reason in str(caught.value)


def test_every_listed_backbone_is_accepted() -> None:
    """All listed backbones pass the check, and the packaged one is first."""
    names = backbones()
    assert names[0] == "pocket" and len(names) > 100
    assert {"RN50:openai", "ViT-L-14:laion2b_s32b_b82k", "PE-Core-B-16:meta"} <= set(names)
    assert {"EVA02-B-16:merged2b_s8b_b131k", "MobileCLIP-B:datacompdr"} <= set(names)
    for name in names:
        check_backbone_name(name)


def test_weights_are_frozen(clip: FrozenCLIP) -> None:
    """No parameter requires gradients, and the model is in evaluation mode."""
    assert not any(p.requires_grad for p in clip._model.parameters())
    assert not any(m.training for m in clip._model.modules())


def test_bfloat16_images_have_float32_unit_norm_features(clip: FrozenCLIP) -> None:
    """Features in bfloat16 are float32, of unit norm, close to the others, and cached apart."""
    tiny = build_clip()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, plain = tiny.encode_images(images), tiny.preprocess_id
    tiny.image_precision = "bf16"
    reduced = tiny.encode_images(images)
    assert reduced.dtype == torch.float32 and not torch.equal(reduced, exact)
    torch.testing.assert_close(reduced.norm(dim=1), torch.ones(3))
    assert (reduced * exact).sum(1).min() > 1 - 1e-3
    assert tiny.preprocess_id != plain and tiny.fingerprint == clip.fingerprint
    tiny.image_precision = "fp32"
    assert torch.equal(tiny.encode_images(images), exact) and tiny.preprocess_id == plain


def test_the_cache_key_has_the_kind_of_device() -> None:
    """Features of a GPU are not read from a CPU's cache, and have no key of their own on a CPU."""
    tiny = build_clip()
    on_cpu = tiny.preprocess_id
    tiny.image_device = "cuda"
    assert tiny.preprocess_id != on_cpu and '"device": "cuda"' in tiny.preprocess_id


def test_images_are_encoded_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32 no product and no convolution may use TensorFloat-32; torch's settings come back."""
    tiny = build_clip()
    encode_image, during = tiny._model.encode_image, []

    def encode(images: torch.Tensor) -> torch.Tensor:
        during.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return encode_image(images)  # type: ignore[no-any-return]

    monkeypatch.setattr(tiny._model, "encode_image", encode)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    tiny.encode_images(torch.zeros(1, 3, 32, 32))
    assert during == [("highest", False)]
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)


CONFIG = {"embed_dim": 16, "text_cfg": {"context_length": 24}}


@pytest.fixture
def model() -> CLIP:
    """The tiny CLIP's model."""
    result: CLIP = build_clip()._model
    return result


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("transformer.resblocks.1.mlp.gelu", QuickGELU()),
        ("transformer.resblocks.1.mlp.gelu", nn.GELU(approximate="tanh")),
        ("transformer.resblocks.0.attn.num_heads", 4),
        ("ln_final.eps", 1e-3),
        ("text_pool_type", "last"),
        ("context_length", 20),
    ],
)
def test_fingerprint_changes_with_layer_settings(model: CLIP, place: str, value: Any) -> None:
    """Activation, heads, constants, pooling and length each change the fingerprint."""
    before = hash_model(model, CONFIG)
    where, _, name = place.rpartition(".")
    setattr(model.get_submodule(where), name, value)
    assert hash_model(model, CONFIG) != before


def test_fingerprint_changes_with_weights_and_dtype(model: CLIP) -> None:
    """One changed weight, or another data type, changes the fingerprint."""
    before = hash_model(model, CONFIG)
    with torch.no_grad():
        weight = model.ln_final.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    changed = hash_model(model, CONFIG)
    assert len({before, changed, hash_model(model.double(), CONFIG)}) == 3


CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def products(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the precision of products in which a trial on this device runs."""
    clip: Any = SimpleNamespace(device=device, precision=precision)
    return FrozenCLIP.use_precision(clip)


def test_tf32_is_set_for_cuda_only_and_restored() -> None:
    """torch's precision is changed only on CUDA with tf32, and restored afterwards."""
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
