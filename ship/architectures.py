"""What is known of a backbone from its configuration alone; no weights are built.

open_clip brings torchvision, and takes as long to import as all the rest of a worker: it is
imported where it is needed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from ship.pocket import BPE_PATH, MODEL_DIR

# Of the text tower's frozen blocks.
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
ImagePrecision = Literal["fp32", "bf16"]

# Settings of a text tower that make open_clip build blocks of another kind than CLIP's.
_OTHER_BLOCKS = (
    "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip


class BackboneError(ValueError):
    """The named backbone does not exist, cannot be loaded, or cannot take prompt embeddings."""


@dataclass(frozen=True)
class Architecture:
    """One architecture and the weights that exist for it.

    name: "pocket", or open_clip's name.
    feature_dim: size of image and text features.
    text_width: size of a token embedding.
    context_length: most tokens in a prompt, SOT and EOT included.
    tags: open_clip's names of pretrained weights; empty where there are none, or none to choose.
    refused: why prompts cannot be put through its text tower; None where they can.
    """

    name: str
    feature_dim: int
    text_width: int
    context_length: int
    tags: tuple[str, ...]
    refused: str | None


def architectures() -> list[Architecture]:
    """ "pocket" and every architecture of open_clip, in open_clip's order."""
    import open_clip

    found = []
    for name in ("pocket", *open_clip.list_models()):
        text = text_settings(name)
        tags = tuple(open_clip.list_pretrained_tags_by_model(name))
        sizes = (feature_dim(name), text.width, text.context_length)
        found.append(Architecture(name, *sizes, tags, drivable(name)))
    return found


def drivable(architecture: str) -> str | None:
    """Why a text tower cannot be driven by prompt embeddings; None where it can.

    Nothing looks at the built tower again: ship.clip.text takes what passes here.

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
    """Size of a backbone's features.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].

    Raises:
        BackboneError: open_clip has no such architecture.
    """
    return int(_config(name)["embed_dim"])


def text_settings(name: str) -> Any:
    """The text tower's settings: open_clip's CLIPTextCfg, with its defaults for what is left out.

    Of "pocket" there are those that its configuration has, without the seconds of open_clip's
    import.

    width: of a token embedding.
    context_length: most tokens in a prompt, SOT and EOT included. A context of n_ctx vectors leaves
        room for a class name where n_ctx <= context_length - 3.
    layers: its blocks.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].

    Raises:
        BackboneError: open_clip has no such architecture.
    """
    found = _config(name)["text_cfg"]
    if name == "pocket":
        return SimpleNamespace(**found)
    from open_clip.model import CLIPTextCfg

    return CLIPTextCfg(**found)


def load_tokenizer(name: str) -> Any:
    """The tokenizer of "pocket" or an open_clip NAME[:PRETRAINED]."""
    import open_clip

    if name == "pocket":
        # open_clip reads bpe_path as given, not relative to the model's folder
        return open_clip.get_tokenizer(f"local-dir:{MODEL_DIR}", bpe_path=str(BPE_PATH))
    return open_clip.get_tokenizer(name.partition(":")[0])


def as_read(name: str, texts: Sequence[str]) -> list[str]:
    """What a backbone's text tower reads of each text: its pieces, as far as it has tokens.

    Args:
        name: "pocket" or an open_clip NAME[:PRETRAINED].
        texts: whole prompts.
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
    """open_clip's configuration of "pocket" or an architecture; None where there is no such one."""
    if architecture == "pocket":
        return json.loads((MODEL_DIR / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    import open_clip

    return open_clip.get_model_config(architecture)
