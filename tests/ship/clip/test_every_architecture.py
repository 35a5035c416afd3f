"""Every supported architecture of open_clip, at its real size."""

import gc
import math

import open_clip
import pytest
import torch

from ship.architectures import find_unsupported
from ship.clip import make_class_prompts
from tests.ship.hub_tokenizers import hub_tokenizers as hub_tokenizers
from tests.ship.towers import TEXTS, open_clips, random_tower

DRIVABLE = [name for name in open_clip.list_models() if find_unsupported(name) is None]
# Of unit-norm features in single precision; the deepest towers have 32 blocks.
TOLERANCE = 1e-6
NAMES = ["dog", "a photo", "very last 24 balloons"]


@pytest.mark.weekly
@pytest.mark.parametrize("name", DRIVABLE)
@pytest.mark.usefixtures("hub_tokenizers")
def test_features_equal_encode_text_for_every_architecture(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences and names after a shared context have open_clip's features."""
    clip = random_tower(monkeypatch, name)
    expected = open_clips(clip, TEXTS)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    assert (clip.encode_texts(TEXTS) - expected).abs().max() < TOLERANCE
    ids = clip.tokenizer.encode("a photo of a")
    parts = make_class_prompts(clip, NAMES, len(ids))
    prefix = parts.prefix(clip.text.embed(torch.tensor([ids])))
    with torch.no_grad():
        actual = clip.text.encode_shared(prefix, parts.names, parts.host_lengths)[0]
    sentences = open_clips(clip, [f"a photo of a {class_name}." for class_name in NAMES])
    assert (actual - sentences).abs().max() < TOLERANCE
    assert math.isclose(float(actual.norm(dim=-1).mean()), 1, rel_tol=1e-5)
    del clip, parts, prefix
    gc.collect()


def test_most_architectures_are_supported() -> None:
    """At least the expected number of open_clip's architectures is supported."""
    refused = [name for name in open_clip.list_models() if name not in DRIVABLE]
    assert len(DRIVABLE) >= 130
    assert all(
        name.startswith("coca") or "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]
        for name in refused
    )
