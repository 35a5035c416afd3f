"""Check the name of a backbone, load its model, and hash its weights and architecture."""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from ship.architectures import (
    BackboneError,
    find_config,
    find_unsupported,
    get_text_settings,
    load_tokenizer,
    split_name,
)
from ship.clip.checkpoint_files import explain_loading_error, is_torchscript, read_archive_weights
from ship.clip.text import get_pooling, get_text_module
from ship.hub import (
    WEIGHT_FILES,
    HubError,
    fetch_hub_file,
    find_cached_file,
    parse_repository,
    require_reachable,
)
from ship.hub_tokenizer import TokenizerError, require_tokenizers
from ship.pocket import MODEL_DIR

# Tag of weights drawn at random with a fixed seed, for benchmarks and tests only.
RANDOM: Final = "random"
# Attributes that affect a layer's output in addition to its weights, by type of layer. hash_model()
# adds QuickGELU.
_LAYER_SETTINGS: Final[Mapping[type[nn.Module], tuple[str, ...]]] = {
    nn.MultiheadAttention: ("num_heads",),
    nn.LayerNorm: ("eps",),
    nn.BatchNorm2d: ("eps",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups"),
    nn.GELU: ("approximate",),
    nn.ReLU: (),
    nn.SiLU: (),
}
# The same for a text tower. Its pooling is text_pool_type in open_clip's CLIP, and pool_type in
# CustomTextCLIP.
_TOWER_SETTINGS: Final = ("context_length", "text_pool_type", "pool_type")


def check_backbone_name(name: str) -> None:
    """Check that a backbone exists and accepts prompt embeddings, without loading its weights.

    Raises:
        BackboneError: The backbone does not exist, its text tower does not accept prompt
            embeddings, or its tokenizer requires a library that is not installed. The message is
            one line.
    """
    if name == "pocket":
        return
    from open_clip import list_models, list_pretrained_tags_by_model

    architecture, pretrained = split_name(name)
    is_hub_name = parse_repository(name) is not None
    architectures = list_models()
    if not is_hub_name and architecture not in architectures:
        suggestions = get_close_matches(architecture, ["pocket", *architectures], n=3)
        hint = f"nearest: {', '.join(suggestions)}" if suggestions else "see ship-sweep backbones"
        if not pretrained and _looks_like_path(name):
            hint = f"put the architecture of the file before its path, e.g. ViT-B-16:{name}"
        requirement = "must be pocket, an open_clip NAME:PRETRAINED or hf-hub:ORG/MODEL"
        raise BackboneError(f"{requirement}, got {name!r} ({hint})")
    if refusal := find_unsupported(architecture):
        requirement = "must be a backbone whose text tower accepts prompt embeddings"
        raise BackboneError(f"{requirement}, got {name!r} ({refusal})")
    if get_text_settings(architecture).hf_tokenizer_name:
        try:
            require_tokenizers()
        except TokenizerError as error:
            raise BackboneError(f"backbone {name!r} could not be loaded: {error}") from error
    if is_hub_name:
        return
    tags = list_pretrained_tags_by_model(architecture)
    if pretrained == RANDOM or pretrained in tags or Path(pretrained).is_file():
        return
    base_architecture = architecture.removesuffix("-quickgelu")
    requirement = f"must name pretrained weights as {architecture}:PRETRAINED"
    if pretrained in list_pretrained_tags_by_model(base_architecture):
        requirement = f"must be {base_architecture}:{pretrained}"
        hint = "its weights were trained without QuickGELU"
    elif pretrained and Path(pretrained).is_dir():
        hint = f"{pretrained} is a folder; name the checkpoint file in it"
    elif _looks_like_path(pretrained):
        hint = f"no such file: {pretrained}"
    else:
        hint = "choices: " + ", ".join([*tags, "a checkpoint file"])
    raise BackboneError(f"{requirement}, got {name!r} ({hint})")


def _looks_like_path(name: str) -> bool:
    """Return True if a name looks like the path of a file, existing or not."""
    return "/" in name or "." in name


def load_model(name: str) -> tuple[nn.Module, Any]:
    """Load the model and the tokenizer of a backbone.

    Args:
        name: Name that check_backbone_name accepts.

    Raises:
        BackboneError: The weights or the tokenizer cannot be loaded. The message is one line with
            the reason and, if known, advice.
    """
    try:
        model, tokenizer = _create_model(name), load_tokenizer(name)
        _check_eot(model, tokenizer)
        return model, tokenizer
    except BackboneError:
        raise
    except Exception as error:  # a broken checkpoint may raise anything
        reason = explain_loading_error(name, error)
        raise BackboneError(f"backbone {name!r} could not be loaded: {reason}") from error


def _check_eot(model: nn.Module, tokenizer: Any) -> None:
    """Check that the text tower pools at the tokenizer's EOT.

    Only towers of pool_type "eos" are checked. Their configuration has the ID of the token that
    they pool at.

    Raises:
        ValueError: That token is not the tokenizer's EOT.
    """
    (pool_type, eos), eot = get_pooling(model), tokenizer.eot_token_id
    if pool_type == "eos" and eos != eot:
        raise ValueError(f"its text tower pools at token {eos}, but its tokenizer's EOT is {eot}")


def _create_model(name: str) -> nn.Module:
    """Create the model of a backbone and load its weights."""
    from open_clip import create_model
    from open_clip.pretrained import get_pretrained_cfg

    architecture, pretrained = split_name(name)
    if name == "pocket":
        model: nn.Module = create_model(f"local-dir:{MODEL_DIR}")
    elif repository := parse_repository(name):
        path = Path(fetch_hub_file(repository, WEIGHT_FILES, "its weights are"))
        # downloads the configuration into the same folder, where open_clip reads both files
        find_config(name)
        model = create_model(f"local-dir:{path.parent}", require_pretrained=True)
    elif pretrained == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = create_model(architecture, load_weights=False)
    elif (entry := get_pretrained_cfg(architecture, pretrained)) or not is_torchscript(pretrained):
        model = create_model(
            architecture,
            pretrained=_fetch_hub_weights(architecture, entry) or pretrained,
            # Without this, open_clip uses the architecture's activation, and only warns.
            force_quick_gelu=bool(entry.get("quick_gelu", False)),
            # open_clip ignores a tag's preprocessing if it gets the path of a file. The image size
            # is that of the architecture.
            force_preprocess_cfg={k: value for k, value in entry.items() if k != "size"},
        )
    else:
        weights, is_openai = read_archive_weights(pretrained)
        # all of OpenAI's archives use QuickGELU
        model = create_model(architecture, load_weights=False, force_quick_gelu=is_openai)
        model.load_state_dict(weights)
    return model


def _fetch_hub_weights(architecture: str, entry: Mapping[str, Any]) -> str | None:
    """Return the path of a tag's weights in the hub's cache, downloading them if necessary.

    The cache is read here, because open_clip contacts the hub even for cached files. Without a
    network that fails after 45 seconds.

    Args:
        architecture: Architecture of the tag.
        entry: open_clip's configuration of the tag. Empty for a checkpoint file.

    Returns:
        The path. None if the weights are not on the hub; open_clip can then load them itself.

    Raises:
        HubError: The weights are not in the cache, and the hub does not respond.
        Exception: The download failed. open_clip may raise anything.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from open_clip.pretrained import download_pretrained

    repository, _, name = entry.get("hf_hub", "").rpartition("/")
    if not repository or "file" in entry:
        return None
    # in the order that open_clip tries
    names = [Path(name).with_suffix(".safetensors").name, name] if name else WEIGHT_FILES
    if path := find_cached_file(repository, names):
        return path
    try:
        require_reachable(repository, names[0], "its weights are")
    except HfHubHTTPError:
        pass  # the hub responds, and open_clip may find the weights under another name
    except HubError as error:
        advice = f"Or use a checkpoint file instead of the tag: {architecture}:FILE"
        raise HubError(f"{error}. {advice}") from error
    return str(download_pretrained(entry))


def hash_model(
    model: nn.Module,
    config: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
) -> str:
    """Hash everything that determines a model's output: weights, layer settings and architecture.

    The activation is read from the layers, not from the configuration, because it may depend on the
    weights (ViT-B-16:openai uses QuickGELU, although the architecture does not). Properties that a
    release of torch may change without altering results are not hashed, e.g. how a model is
    printed.

    Args:
        model: A CLIP of open_clip.
        config: open_clip's configuration of the architecture. None hashes no configuration.
        tokenizer: Properties of the tokenizer that affect token IDs. None or {} hashes none.

    Returns:
        32 hex digits.
    """
    from open_clip.transformer import QuickGELU

    tower = get_text_module(model)
    description = {
        "config": None if config is None else {k: config[k] for k in config if k != "quick_gelu"},
        "tower": {name: getattr(tower, name, None) for name in _TOWER_SETTINGS},
        "layers": [
            [name, kind.__name__, *(getattr(layer, setting) for setting in settings)]
            for name, layer in model.named_modules()
            for kind, settings in {**_LAYER_SETTINGS, QuickGELU: ()}.items()
            if isinstance(layer, kind)
        ],
        **({"tokenizer": tokenizer} if tokenizer else {}),
    }
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(description, sort_keys=True).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        flat_value = value.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat_value.view(torch.uint8).numpy()))
    return digest.hexdigest()
