"""Properties of backbones, read from their configuration files without building a model.

open_clip is imported inside functions because it imports torchvision, which takes as long as all
other imports of a worker together.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from ship.hub import (
    CONFIG_FILE,
    HUB_PREFIX,
    HubError,
    fetch_hub_file,
    is_repository,
    parse_repository,
)
from ship.hub_tokenizer import load_hub_tokenizer
from ship.pocket import BPE_PATH, MODEL_DIR
from ship.whole_file import read_whole

# Precision of the text tower's frozen blocks, and of the image tower's matrix multiplications.
Precision = Literal["fp32", "tf32", "bf16"]
ImagePrecision = Literal["fp32", "bf16"]

# Options that make open_clip build a text tower from custom blocks instead of CLIP's.
_CUSTOM_BLOCK_OPTIONS = (
    "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc",
)  # fmt: skip
# Maximum size of a configuration file from the hub. Most have a few hundred bytes.
_MAX_CONFIG_BYTES = 100_000


class BackboneError(ValueError):
    """A backbone does not exist, cannot be loaded, or does not accept prompt embeddings.

    Prompt embeddings are token embeddings in which learned vectors replace words of the prompt.
    """


@dataclass(frozen=True)
class Architecture:
    """An architecture and the names of its pretrained weights.

    Attributes:
        name: "pocket", or open_clip's name.
        feature_dim: Size of image and text features.
        text_width: Size of a token embedding.
        context_length: Maximum number of tokens in a prompt, including the start-of-text (SOT) and
            end-of-text (EOT) tokens.
        tags: open_clip's names of the pretrained weights. Empty for "pocket", and for architectures
            without pretrained weights.
        refusal: Reason why the text tower does not accept prompt embeddings. None if it does.
    """

    name: str
    feature_dim: int
    text_width: int
    context_length: int
    tags: tuple[str, ...]
    refusal: str | None


def split_name(backbone: str) -> tuple[str, str]:
    """Split a backbone's name into its architecture and its pretrained weights.

    Returns:
        Name of the architecture, and open_clip's name of the weights or "" if the backbone has
        none. "hf-hub:ORG/MODEL" is returned as the architecture, with "".
    """
    if parse_repository(backbone) is not None:
        return backbone, ""
    architecture, _, pretrained = backbone.partition(":")
    return architecture, pretrained


def list_architectures() -> list[Architecture]:
    """Return "pocket" and every architecture of open_clip, in open_clip's order."""
    import open_clip

    rows = []
    for name in ("pocket", *open_clip.list_models()):
        text = get_text_settings(name)
        tags = tuple(open_clip.list_pretrained_tags_by_model(name))
        row = Architecture(
            name=name,
            feature_dim=get_feature_dim(name),
            text_width=text.width,
            context_length=text.context_length,
            tags=tags,
            refusal=find_unsupported(name),
        )
        rows.append(row)
    return rows


def find_unsupported(architecture: str) -> str | None:
    """Return the reason why a text tower does not accept prompt embeddings (see BackboneError).

    This is the only check: ship.clip.text relies on it without inspecting the tower.

    Returns:
        The reason, or None if the text tower accepts them.

    Raises:
        BackboneError: The architecture is unknown, or its configuration cannot be read.
    """
    if architecture == "pocket":
        return None
    text = get_text_settings(architecture)
    if text.hf_model_name:
        return f"its text tower is Hugging Face's {text.hf_model_name}, not CLIP's transformer"
    if text.embed_cls:
        return "its text tower appends a class embedding (CoCa)"
    if text.block_type == "custom" or any(
        getattr(text, option) for option in _CUSTOM_BLOCK_OPTIONS
    ):
        return "its text blocks are CustomResidualAttentionBlock, not CLIP's own"
    if text.tokenizer_mode:
        return f"its tokenizer adds tokens (tokenizer_mode {text.tokenizer_mode!r})"
    return _find_unsupported_pooling(text)


def _find_unsupported_pooling(text: Any) -> str | None:
    """Return the reason why a text tower's pooling is not supported, or None if it is."""
    if text.pool_type == "last" and text.no_causal_mask:
        return None
    if text.pool_type not in ("argmax", "eos"):
        return f"its text tower pools at {text.pool_type!r}, not at EOT"
    if text.pool_type == "argmax" and text.hf_tokenizer_name:
        return (
            "its text tower pools at the largest token ID, which is EOT for CLIP's tokenizer only"
        )
    return None


def get_feature_dim(name: str) -> int:
    """Return the size of a backbone's features.

    Args:
        name: "pocket", an open_clip NAME[:PRETRAINED] or hf-hub:ORG/MODEL.

    Raises:
        BackboneError: open_clip has no such architecture, or the repository cannot be read.
    """
    return int(_require_config(name)["embed_dim"])


def get_text_settings(name: str) -> Any:
    """Return the settings of a text tower.

    Args:
        name: "pocket", an open_clip NAME[:PRETRAINED] or hf-hub:ORG/MODEL.

    Returns:
        open_clip's CLIPTextCfg. For "pocket", a namespace with only the keys of its configuration
        file, because importing open_clip takes seconds. Both have these attributes:

        - width: size of a token embedding.
        - context_length: maximum number of tokens in a prompt, including SOT and EOT. A context of
          n_ctx vectors leaves room for a class name if n_ctx <= context_length - 3.
        - layers: number of blocks.

    Raises:
        BackboneError: open_clip has no such architecture or rejects its settings, or the repository
            cannot be read.
    """
    settings = _require_config(name)["text_cfg"]
    if name == "pocket":
        return SimpleNamespace(**settings)
    from open_clip.model import CLIPTextCfg

    try:
        return CLIPTextCfg(**settings)
    except TypeError as error:  # a repository may have keys of another open_clip release
        reason = f"open_clip rejects its text_cfg: {error}"
        raise BackboneError(f"backbone {name!r} could not be loaded: {reason}") from error


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of a backbone.

    Args:
        name: "pocket", an open_clip NAME[:PRETRAINED] or hf-hub:ORG/MODEL.

    Returns:
        open_clip's SimpleTokenizer, or a HubTokenizer, which has the same methods.

    Raises:
        BackboneError: The backbone's configuration or its Hugging Face tokenizer cannot be loaded.
    """
    import open_clip

    if name == "pocket":
        # open_clip does not resolve bpe_path relative to the model's folder
        return open_clip.get_tokenizer(f"local-dir:{MODEL_DIR}", bpe_path=str(BPE_PATH))
    text = get_text_settings(name)
    architecture, _ = split_name(name)
    if text.hf_tokenizer_name:
        options = text.tokenizer_kwargs or {}
        try:
            return load_hub_tokenizer(text.hf_tokenizer_name, text.context_length, options)
        except (HubError, ValueError, TypeError) as error:
            raise BackboneError(f"backbone {name!r} could not be loaded: {error}") from error
    if parse_repository(architecture) is not None:
        # open_clip contacts the hub even if the configuration is cached
        return open_clip.get_tokenizer(f"local-dir:{_fetch_hub_config(architecture).parent}")
    return open_clip.get_tokenizer(architecture)


def get_padding_id(tokenizer: Any) -> int:
    """Return the token ID that a tokenizer pads with. It is 0 for open_clip's own tokenizers."""
    return int(getattr(tokenizer, "pad_token_id", 0))


def count_special_tokens(tokenizer: Any) -> int:
    """Return the number of tokens that mark the start and the end of a prompt: 1 or 2."""
    return 1 if tokenizer.sot_token_id is None else 2


def truncate_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return the part of each text that fits into a backbone's context length.

    The texts are tokenized, truncated and decoded, which may also change case and white space.

    Args:
        name: "pocket", an open_clip NAME[:PRETRAINED] or hf-hub:ORG/MODEL.
        texts: Complete prompts.
    """
    tokenizer = load_tokenizer(name)
    max_tokens = get_text_settings(name).context_length - count_special_tokens(tokenizer)
    return [tokenizer.decode(tokenizer.encode(text)[:max_tokens]).strip() for text in texts]


def _require_config(name: str) -> Any:
    """Return open_clip's configuration of a backbone. Raises the same errors as get_feature_dim."""
    architecture, _ = split_name(name)
    config = find_config(architecture)
    if config is None:
        raise BackboneError(f"must be pocket or an architecture of open_clip, got {architecture!r}")
    return config


def find_config(architecture: str) -> Any:
    """Return open_clip's configuration of an architecture, or None if there is none.

    Args:
        architecture: "pocket", open_clip's name, or hf-hub:ORG/MODEL.

    Raises:
        BackboneError: The configuration of a repository cannot be read.
    """
    if architecture == "pocket":
        return json.loads((MODEL_DIR / CONFIG_FILE).read_text("utf-8"))["model_cfg"]
    if parse_repository(architecture) is not None:
        return _read_hub_config(architecture)
    import open_clip

    return open_clip.get_model_config(architecture)


def _fetch_hub_config(architecture: str) -> Path:
    """Return the path of a repository's configuration, downloading it if necessary."""
    repository = parse_repository(architecture) or ""
    if not is_repository(repository):
        raise BackboneError(f"must be {HUB_PREFIX}ORG/MODEL, got {architecture!r}")
    try:
        return Path(fetch_hub_file(repository, [CONFIG_FILE], "its configuration is"))
    except HubError as error:
        raise BackboneError(f"backbone {architecture!r} could not be loaded: {error}") from error


def _read_hub_config(architecture: str) -> Any:
    """Return the configuration of a backbone hf-hub:ORG/MODEL. The file is untrusted input."""
    path = _fetch_hub_config(architecture)
    try:
        config = json.loads(read_whole(path, _MAX_CONFIG_BYTES))["model_cfg"]
        if isinstance(config["text_cfg"], dict) and isinstance(config["embed_dim"], int):
            return config
    except (ValueError, LookupError, TypeError):  # not JSON, or without these keys
        pass
    fault = f"{CONFIG_FILE} has no model_cfg with embed_dim and text_cfg"
    raise BackboneError(f"backbone {architecture!r} could not be loaded: {fault} ({path})")
