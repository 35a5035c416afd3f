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
from ship.clip.checkpoint_files import explain_loading_fault, is_torchscript, read_archive_weights
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

# Tag of random weights with a fixed seed, for benchmarks and tests only.
RANDOM: Final = "random"
# Attributes of a layer that affect its function in addition to its weights. hash_model() adds
# QuickGELU.
_LAYER_SETTINGS: Final[Mapping[type[nn.Module], tuple[str, ...]]] = {
    nn.MultiheadAttention: ("num_heads",),
    nn.LayerNorm: ("eps",),
    nn.BatchNorm2d: ("eps",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups"),
    nn.GELU: ("approximate",),
    nn.ReLU: (),
    nn.SiLU: (),
}
# The same for a text tower. open_clip's CLIP and CustomTextCLIP name the pooling differently.
_TOWER_SETTINGS: Final = ("context_length", "text_pool_type", "pool_type")


def check_backbone_name(name: str) -> None:
    """Check that a backbone exists and accepts prompt embeddings, without loading its weights.

    Raises:
        BackboneError: The backbone does not exist, does not accept prompt embeddings, or requires
            a library that is not installed. The message is one line with the name, and the nearest
            choices or the reason.
    """
    if name == "pocket":
        return
    from open_clip import list_models, list_pretrained_tags_by_model

    architecture, pretrained = split_name(name)
    in_repository = parse_repository(name) is not None
    architectures = list_models()
    if not in_repository and architecture not in architectures:
        suggestions = get_close_matches(architecture, ["pocket", *architectures], n=3)
        hint = f"nearest: {', '.join(suggestions)}" if suggestions else "see ship-sweep backbones"
        if not pretrained and _is_path(name):
            hint = f"a file needs the architecture whose weights it has: ViT-B-16:{name}"
        rule = "must be pocket or an open_clip NAME:PRETRAINED"
        raise BackboneError(f"{rule}, got {name!r} ({hint})")
    if refusal := find_unsupported(architecture):
        rule = "must be a backbone whose text tower accepts prompt embeddings"
        raise BackboneError(f"{rule}, got {name!r} ({refusal})")
    if get_text_settings(architecture).hf_tokenizer_name:
        try:
            require_tokenizers()
        except TokenizerError as error:
            raise BackboneError(f"backbone {name!r} could not be loaded: {error}") from error
    if in_repository:
        return
    tags = list_pretrained_tags_by_model(architecture)
    if pretrained == RANDOM or pretrained in tags or Path(pretrained).is_file():
        return
    base_architecture = architecture.removesuffix("-quickgelu")
    rule = f"must name pretrained weights as {architecture}:PRETRAINED"
    if pretrained in list_pretrained_tags_by_model(base_architecture):
        rule = f"must be {base_architecture}:{pretrained}"
        hint = "whose weights were trained without QuickGELU"
    elif pretrained and Path(pretrained).is_dir():
        hint = f"{pretrained} is a folder; name the checkpoint file in it"
    elif _is_path(pretrained):
        hint = f"no such file: {pretrained}"
    else:
        hint = "choices: " + ", ".join([*tags, "a checkpoint file"])
    raise BackboneError(f"{rule}, got {name!r} ({hint})")


def _is_path(name: str) -> bool:
    """Return True if a name looks like the path of a file, existing or not."""
    return "/" in name or "." in name


def load_model(name: str) -> tuple[nn.Module, Any]:
    """Load the model and the tokenizer of a name that check_backbone_name accepts.

    Raises:
        BackboneError: The weights cannot be loaded. The message is one line with the reason and, if
            known, what to do.
    """
    try:
        model, tokenizer = _create_model(name), load_tokenizer(name)
        _check_eot(model, tokenizer)
        return model, tokenizer
    except BackboneError:
        raise
    except Exception as why:  # a broken checkpoint may raise anything
        reason = explain_loading_fault(name, why)
        raise BackboneError(f"backbone {name!r} could not be loaded: {reason}") from why


def _check_eot(model: nn.Module, tokenizer: Any) -> None:
    """Check that the text tower takes its feature at the tokenizer's EOT.

    This concerns towers of pool_type "eos", whose configuration has the ID of that token.

    Raises:
        ValueError: The configured token is not the tokenizer's EOT.
    """
    (pool_type, eos), eot = get_pooling(model), tokenizer.eot_token_id
    if pool_type == "eos" and eos != eot:
        raise ValueError(f"its text tower pools at token {eos}, but its tokenizer's EOT is {eot}")


def _create_model(name: str) -> nn.Module:
    from open_clip import create_model
    from open_clip.pretrained import get_pretrained_cfg

    architecture, pretrained = split_name(name)
    if name == "pocket":
        model: nn.Module = create_model(f"local-dir:{MODEL_DIR}")
    elif repository := parse_repository(name):
        path = Path(fetch_hub_file(repository, WEIGHT_FILES, "its weights are"))
        find_config(name)  # downloads the configuration: open_clip reads both files in this folder
        model = create_model(f"local-dir:{path.parent}", require_pretrained=True)
    elif pretrained == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = create_model(architecture, load_weights=False)
    elif (entry := get_pretrained_cfg(architecture, pretrained)) or not is_torchscript(pretrained):
        model = create_model(
            architecture,
            pretrained=_fetch_hub_weights(architecture, entry) or pretrained,
            # open_clip only warns if the weights need another activation than the architecture's
            force_quick_gelu=bool(entry.get("quick_gelu", False)),
            # open_clip ignores a tag's preprocessing if it loads a file; the image size is the
            # architecture's
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

    open_clip itself contacts the hub even for cached files and, without a network, takes 45 seconds
    to fail.

    Args:
        architecture: Architecture of the tag.
        entry: open_clip's configuration of the tag. Empty for the path of a file.

    Returns:
        The path. None if the weights are not on the hub: open_clip downloads or reads them.

    Raises:
        HubError: The weights are not in the cache, and the hub does not respond. The message says
            what to do.
        Exception: The download failed; open_clip may raise anything.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from open_clip.pretrained import download_pretrained

    repository, _, name = entry.get("hf_hub", "").rpartition("/")
    if not repository or "file" in entry:
        return None
    # in open_clip's order: safetensors first
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

    The activation is read from the layers instead of the configuration, because it depends on the
    weights (ViT-B-16:openai also uses QuickGELU). The hash excludes properties that a release of
    torch may change without altering results, e.g. how a model is printed.

    Args:
        model: A CLIP of open_clip.
        config: open_clip's configuration of the architecture. Defaults to none.
        tokenizer: Properties of the tokenizer that affect the token IDs. Defaults to none.

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
