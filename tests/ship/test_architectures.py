"""Properties from configurations equal those of built backbones."""

from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import _build_text_tower
from open_clip.transformer import ResidualAttentionBlock, TextTransformer

from ship.architectures import (
    BackboneError,
    find_unsupported,
    get_text_settings,
    list_architectures,
)
from ship.clip import FrozenCLIP

CONFIGS: dict[str, Any] = {
    name: open_clip.get_model_config(name) for name in open_clip.list_models()
}
OWN_TOWERS = [name for name in CONFIGS if "hf_model_name" not in CONFIGS[name]["text_cfg"]]


def built_reason(name: str) -> str | None:
    """Return why the tower that open_clip builds, cut to one block, is unsupported."""
    config = CONFIGS[name]
    with torch.device("meta"):
        tower = _build_text_tower(
            config["embed_dim"],
            {**config["text_cfg"], "layers": 1},
            config.get("quick_gelu", False),
        )
    assert isinstance(tower, TextTransformer)
    (block,) = tower.transformer.resblocks
    if tower.cls_emb is not None:
        return "its text tower appends a class embedding (CoCa)"
    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return f"its text blocks are {type(block).__name__}, not CLIP's own"
    if tower.pool_type not in ("argmax", "eos", *(["last"] if tower.attn_mask is None else [])):
        return f"its text tower pools at {tower.pool_type!r}, not at EOT"
    return None


def test_unsupported_reason_equals_that_of_the_built_tower() -> None:
    """For all architectures whose text tower is not Hugging Face's."""
    assert len(OWN_TOWERS) > 100
    for name in OWN_TOWERS:
        assert find_unsupported(name) == built_reason(name), name
    assert sum(find_unsupported(name) is None for name in CONFIGS) >= 130


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"qk_norm": True}, "CustomResidualAttentionBlock"),
        ({"block_type": "custom"}, "CustomResidualAttentionBlock"),
        ({"pool_type": "last"}, "pools at 'last'"),
        ({"pool_type": "first", "no_causal_mask": True}, "pools at 'first'"),
    ],
)
def test_unusual_tower_settings_are_judged_by_the_same_rule(
    setting: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added configurations have the reason of their built towers."""
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"width": 8, "heads": 1, **setting}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "added", config)
    monkeypatch.setitem(CONFIGS, "added", config)
    assert reason in (find_unsupported("added") or "")
    assert find_unsupported("added") == built_reason("added")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"hf_tokenizer_name": "org/bert"}, "pools at the largest token ID"),
        ({"hf_tokenizer_name": "org/bert", "tokenizer_mode": "clips"}, "mode 'clips'"),
    ],
)
def test_argmax_pooling_with_another_tokenizer_is_unsupported(
    setting: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only CLIP's tokenizer has EOT as its largest ID."""
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"width": 8, "heads": 1, **setting}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "added", config)
    assert reason in (find_unsupported("added") or "")


def test_siglip_configurations_name_their_tokenizer() -> None:
    """open_clip chooses a tokenizer by this part of a name otherwise."""
    offered = [entry.name for entry in list_architectures() if entry.refusal is None]
    named = [name for name in offered if "siglip" in name.lower()]
    assert len(named) == 26 and all(get_text_settings(name).hf_tokenizer_name for name in named)


def test_sizes_equal_those_of_the_loaded_backbone() -> None:
    """Feature size, text width and context length, also of pocket."""
    known = {entry.name: entry for entry in list_architectures()}
    assert next(iter(known)) == "pocket"
    for name in ("pocket", "ViT-S-32-alt:random"):
        clip, entry = FrozenCLIP.load(name), known[name.partition(":")[0]]
        assert (entry.feature_dim, entry.text_width) == (clip.feature_dim, clip.text_width)
        assert entry.context_length == get_text_settings(name).context_length == clip.context_length
    assert get_text_settings("PE-Core-B-16:meta").context_length == 32
    with pytest.raises(BackboneError, match="got 'ViT-B-61'"):
        get_text_settings("ViT-B-61:openai")
    assert known["ViT-L-14"].tags[0] == "openai" and "laion2b_s32b_b82k" in known["ViT-L-14"].tags
