"""Properties of backbones that are known from their configuration, without building weights.

open_clip imports torchvision, which takes as long as all other imports of a worker. It is therefore
imported inside functions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from ship.pocket import BPE_PATH, MODEL_DIR

# Precision of the text tower's frozen blocks.
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
ImagePrecision = Literal["fp32", "bf16"]

# Settings of a text tower with which open_clip builds other blocks than CLIP's.
_OTHER_BLOCKS = (
    "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip


class BackboneError(ValueError):
    """A backbone does not exist, cannot be loaded, or does not accept prompt embeddings."""


@dataclass(frozen=True)
class Architecture:
    """An architecture and its pretrained weights.

    Attributes:
        name: "pocket", or open_clip's name.
        feature_dim: Size of image and text features.
        text_width: Size of a token embedding.
        context_length: Maximum number of tokens in a prompt, including SOT and EOT.
        tags: open_clip's names of pretrained weights. Empty if there are none to choose from.
        refused: Reason why its text tower does not accept prompt embeddings. None if it does.
    """

    name: str
    feature_dim: int
    text_width: int
    context_length: int
    tags: tuple[str, ...]
    refused: str | None


def architectures() -> list[Architecture]:
    """Return "pocket" and every architecture of open_clip, in open_clip's order."""
    import open_clip

    rows = []
    for name in ("pocket", *open_clip.list_models()):
        text = text_settings(name)
        tags = tuple(open_clip.list_pretrained_tags_by_model(name))
        sizes = (feature_dim(name), text.width, text.context_length)
        rows.append(Architecture(name, *sizes, tags, drivable(name)))
    return rows


def drivable(architecture: str) -> str | None:
    """Return the reason why a text tower does not accept prompt embeddings.

    This is the only check: ship.clip.text relies on it without inspecting the tower.

    Returns:
        The reason, or None if the text tower accepts them.

    Raises:
        BackboneError: open_clip has no such architecture.
    """
    if architecture == "pocket":
        return None
    text = text_settings(architecture)
    if text.hf_model_name:
        return f"its text tower is Hugging Face's {text.hf_model_name}, not CLIP's transformer"
    if text.no_causal_mask:
        return "its text tower is bidirectional (no causal mask)"
    if text.pool_type not in ("argmax", "eos"):
        return f"its text tower pools at {text.pool_type!r}, not at EOT"
    if text.embed_cls:
        return "its text tower appends a class embedding (CoCa)"
    if text.block_type == "custom" or any(getattr(text, name) for name in _OTHER_BLOCKS):
        return "its text blocks are CustomResidualAttentionBlock, not CLIP's own"
    if text.hf_tokenizer_name:
        return f"its tokenizer is Hugging Face's {text.hf_tokenizer_name}, not CLIP's BPE"
    return None


def feature_dim(name: str) -> int:
    """Return the size of a backbone's features.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].

    Raises:
        BackboneError: open_clip has no such architecture.
    """
    return int(_config(name)["embed_dim"])


def text_settings(name: str) -> Any:
    """Return the settings of a text tower.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].

    Returns:
        open_clip's CLIPTextCfg with its defaults. For "pocket" a namespace of the keys in its
        configuration, which avoids importing open_clip (seconds). Among the attributes:

        - width: size of a token embedding.
        - context_length: maximum number of tokens in a prompt, including SOT and EOT. A context of
          n_ctx vectors leaves room for a class name if n_ctx <= context_length - 3.
        - layers: number of blocks.

    Raises:
        BackboneError: open_clip has no such architecture.
    """
    settings = _config(name)["text_cfg"]
    if name == "pocket":
        return SimpleNamespace(**settings)
    from open_clip.model import CLIPTextCfg

    return CLIPTextCfg(**settings)


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of "pocket" or an open_clip NAME[:PRETRAINED]."""
    import open_clip

    if name == "pocket":
        # open_clip does not resolve bpe_path relative to the model's folder
        return open_clip.get_tokenizer(f"local-dir:{MODEL_DIR}", bpe_path=str(BPE_PATH))
    return open_clip.get_tokenizer(name.partition(":")[0])


def as_read(name: str, texts: Sequence[str]) -> list[str]:
    """Return the part of each text that a backbone's text tower reads, as decoded tokens.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].
        texts: Complete prompts.
    """
    tokenizer, most = load_tokenizer(name), text_settings(name).context_length - 2
    return [tokenizer.decode(tokenizer.encode(text)[:most]).strip() for text in texts]


def _config(name: str) -> Any:
    architecture = name.partition(":")[0]
    config = find_config(architecture)
    if config is None:
        raise BackboneError(f"must be pocket or an architecture of open_clip, got {architecture!r}")
    return config


def find_config(architecture: str) -> Any:
    """Return open_clip's configuration of "pocket" or an architecture, or None if unknown."""
    if architecture == "pocket":
        return json.loads((MODEL_DIR / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    import open_clip

    return open_clip.get_model_config(architecture)
