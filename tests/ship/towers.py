"""Backbones with an architecture's text tower, random weights and no image tower.

Their tokenizers are the tiny ones of tests.ship.hub_tokenizers.
"""

from typing import Any

import open_clip
import pytest
import torch

from ship.clip import FrozenCLIP

TEXTS = ["a photo of a dog.", "dog", "a photo of the very last 24 balloons, over a sea " * 9]
SHRUNKEN = {"width": 24, "heads": 2, "layers": 3}
# A vocabulary that has the tokens of the tiny tokenizers.
VOCABULARY = 300


def random_tower(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    dtype: torch.dtype = torch.float32,
    **sizes: int,
) -> FrozenCLIP:
    """Build a backbone.

    Args:
        monkeypatch: Where open_clip's image tower is left out.
        name: Architecture of open_clip.
        dtype: Data type of the weights.
        sizes: Settings of the text tower that are changed. Defaults to none.
    """
    config = open_clip.get_model_config(name)
    if sizes:
        config["text_cfg"] |= sizes
        config["embed_dim"] = sizes["width"] if config["text_cfg"].get("proj_type") else 16
    if config["text_cfg"].get("hf_tokenizer_name"):
        config["text_cfg"]["vocab_size"] = VOCABULARY
    with monkeypatch.context() as patch:
        patch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        patch.setattr(open_clip.model, "_build_vision_tower", lambda *_: torch.nn.Identity())
        clip = FrozenCLIP.load(f"{name}:random")
    model: Any = clip._model
    text = getattr(model, "text", model)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():  # at init the features of texts nearly coincide
        text.token_embedding.weight.normal_(std=0.5, generator=rng)
        text.positional_embedding.normal_(std=0.1, generator=rng)
    return FrozenCLIP(f"{name}:random", model.to(dtype), clip.tokenizer)


@torch.no_grad()
def open_clips(clip: FrozenCLIP, texts: list[str]) -> torch.Tensor:
    """Return open_clip's own features of texts."""
    ids = torch.as_tensor(clip.tokenizer(texts))
    features: torch.Tensor = clip._model.encode_text(ids, normalize=True)
    return features
