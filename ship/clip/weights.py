"""Weights of a backbone: checks of its name, loading, fingerprints and explanations of errors."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import torch
from torch import Size, Tensor, nn

from ship.architectures import BackboneError, architectures, drivable, load_tokenizer
from ship.pocket import MODEL_DIR

# Tag of random weights with a fixed seed: for benchmarks and tests of shapes, never for results.
RANDOM: Final = "random"
# Files that open_clip looks for on the hub if a tag names no file.
_UNNAMED: Final = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
# Attributes of a layer that affect its function in addition to its weights. fingerprint() adds
# QuickGELU.
_DECIDING: Final[Mapping[type[nn.Module], tuple[str, ...]]] = {
    nn.MultiheadAttention: ("num_heads",),
    nn.LayerNorm: ("eps",),
    nn.BatchNorm2d: ("eps",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups"),
    nn.GELU: ("approximate",),
    nn.ReLU: (),
    nn.SiLU: (),
}
# The same for a text tower; CLIP and CustomTextCLIP's tower use different names for the pooling.
_TOWER: Final = ("context_length", "text_pool_type", "pool_type")

Shapes = Mapping[str, Size]


def check_backbone_name(name: str) -> None:
    """Check that a backbone exists and accepts prompt embeddings, without loading its weights.

    Raises:
        BackboneError: It does not exist or does not accept them. The message is one line with the
            name, and the nearest choices or the reason.
    """
    if name == "pocket":
        return
    from open_clip import list_models, list_pretrained_tags_by_model

    architecture, _, pretrained = name.partition(":")
    known = list_models()
    if architecture not in known:
        near = get_close_matches(architecture, ["pocket", *known], n=3)
        hint = f"nearest: {', '.join(near)}" if near else "see ship-sweep backbones"
        if not pretrained and _is_path(name):
            hint = f"a file needs the architecture whose weights it has: ViT-B-16:{name}"
        rule = "must be pocket or an open_clip NAME:PRETRAINED"
        raise BackboneError(f"{rule}, got {name!r} ({hint})")
    if refused := drivable(architecture):
        rule = "must be a backbone that prompts can drive"
        raise BackboneError(f"{rule}, got {name!r} ({refused})")
    tags = list_pretrained_tags_by_model(architecture)
    if pretrained == RANDOM or pretrained in tags or Path(pretrained).is_file():
        return
    plain = architecture.removesuffix("-quickgelu")
    rule = f"must name pretrained weights as {architecture}:PRETRAINED"
    if pretrained in list_pretrained_tags_by_model(plain):
        rule = f"must be {plain}:{pretrained}"
        hint = "whose weights were trained without QuickGELU"
    elif pretrained and Path(pretrained).is_dir():
        hint = f"{pretrained} is a folder: name the checkpoint file in it"
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
        return _created(name), load_tokenizer(name)
    except Exception as why:  # a broken checkpoint may raise anything
        reason = _loading_fault(name, why)
        raise BackboneError(f"backbone {name!r} could not be loaded: {reason}") from why


def _created(name: str) -> nn.Module:
    from open_clip import create_model
    from open_clip.pretrained import get_pretrained_cfg

    architecture, _, pretrained = name.partition(":")
    if name == "pocket":
        model: nn.Module = create_model(f"local-dir:{MODEL_DIR}")
    elif pretrained == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = create_model(architecture, load_weights=False)
    elif (entry := get_pretrained_cfg(architecture, pretrained)) or not _is_torchscript(pretrained):
        model = create_model(
            architecture,
            pretrained=_weights_on_hub(architecture, entry) or pretrained,
            # open_clip only warns if the weights need another activation than the architecture's
            force_quick_gelu=bool(entry.get("quick_gelu", False)),
            # open_clip ignores the tag's settings for a file; the size is the architecture's
            force_preprocess_cfg={k: value for k, value in entry.items() if k != "size"},
        )
    else:
        weights, is_openais = _archive_weights(pretrained)
        # all of OpenAI's archives use QuickGELU
        model = create_model(architecture, load_weights=False, force_quick_gelu=is_openais)
        model.load_state_dict(weights)
    return model


def _weights_on_hub(architecture: str, entry: Mapping[str, Any]) -> str | None:
    """Return the path of a tag's weights in the Hugging Face Hub's cache, downloading if necessary.

    open_clip itself contacts the hub even for cached files, and takes 45 seconds to fail without a
    network.

    Args:
        architecture: Architecture of the tag.
        entry: open_clip's configuration of the tag. Empty for the path of a file.

    Returns:
        The path, or None for a tag whose weights are not on the hub: open_clip locates them.

    Raises:
        FileNotFoundError: The weights are not in the cache, and the hub does not respond. The
            message says what to do.
        Exception: Any exception of open_clip for a failed download.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError
    from open_clip.pretrained import download_pretrained

    repository, _, name = entry.get("hf_hub", "").rpartition("/")
    if not repository or "file" in entry:
        return None
    # in open_clip's order: safetensors first
    names = [Path(name).with_suffix(".safetensors").name, name] if name else _UNNAMED
    for path in (try_to_load_from_cache(repository, name) for name in names):
        if isinstance(path, str):
            return path
    try:
        get_hf_file_metadata(hf_hub_url(repository, names[0]), timeout=5.0)
    except HfHubHTTPError:
        pass  # the hub responds; open_clip may find the weights in another file
    except Exception as error:  # its type depends on the version and its HTTP client
        raise FileNotFoundError(
            f"its weights are not in {HF_HUB_CACHE}, and the hub does not answer "
            f"({_first_line(error).rstrip('.')}). On a machine with a network, ship-sweep "
            "prefetch downloads --space FILE puts them below the folder that HF_HOME names, which "
            "has to be one that this machine sees; a file may stand in the tag's place, too: "
            f"{architecture}:FILE"
        ) from error
    return str(download_pretrained(entry))


def _is_torchscript(path: str) -> bool:
    """Return True if a file is a TorchScript archive, like OpenAI's weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _archive_weights(path: str) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors of a TorchScript archive by name, and whether it is one of OpenAI's."""
    weights = dict(torch.jit.load(path, map_location="cpu").state_dict())  # noqa: TID251 - OpenAI's weights are TorchScript archives
    # only OpenAI's archives contain these in addition to the weights
    sizes = [weights.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    return weights, all(size is not None for size in sizes)


def fingerprint(model: nn.Module, config: Mapping[str, Any] | None = None) -> str:
    """Hash everything that determines a model's output: weights, layer settings and architecture.

    The activation is that of the built layers, not of the configuration, because it depends on the
    weights (ViT-B-16:openai uses QuickGELU, too). The hash excludes properties that a release of
    torch may change without altering results, e.g. how a model is printed.

    Args:
        model: A CLIP of open_clip.
        config: open_clip's configuration of its architecture, if there is one.

    Returns:
        32 hex digits.
    """
    from open_clip.transformer import QuickGELU

    tower = getattr(model, "text", model)
    described = {
        "config": None if config is None else {k: config[k] for k in config if k != "quick_gelu"},
        "tower": {name: getattr(tower, name, None) for name in _TOWER},
        "layers": [
            [name, kind.__name__, *(getattr(layer, setting) for setting in settings)]
            for name, layer in model.named_modules()
            for kind, settings in {**_DECIDING, QuickGELU: ()}.items()
            if isinstance(layer, kind)
        ],
    }
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(described, sort_keys=True).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return digest.hexdigest()


def _loading_fault(name: str, why: Exception) -> str:
    """Explain why weights could not be loaded. A file is read again for this.

    Args:
        name: Name of the backbone.
        why: Exception raised by loading.
    """
    from open_clip import list_pretrained_tags_by_model
    from open_clip.factory import load_state_dict

    architecture, _, path = name.partition(":")
    if path in list_pretrained_tags_by_model(architecture) or not Path(path).is_file():
        reason = _first_line(why)
        if reason.startswith("Failed to download"):
            reason += f" (without a network, put a file in the tag's place: {architecture}:FILE)"
        return reason
    would_do = f"a state_dict of {architecture} in a .pt or .safetensors file would do"
    try:
        archived = _is_torchscript(path)
        weights = _archive_weights(path)[0] if archived else load_state_dict(path)
        shapes = {key: tensor.shape for key, tensor in weights.items()}
    except Exception as error:  # a broken checkpoint may raise anything
        return f"{path} {_unreadable(path, error)}; {would_do}"
    expected = _shapes(architecture)
    if shapes == expected:
        return _first_line(why)
    if fitting := [f"{other}:{path}" for other in _fitting(shapes)]:
        return f"{path} has the weights of another architecture; write {' or '.join(fitting)}"
    return f"{path} is not of {architecture}: {_difference(shapes, expected)}; {would_do}"


def _first_line(why: Exception) -> str:
    """Return the first line of an exception's message, or its type if there is no message."""
    return str(why).strip().partition("\n")[0] or type(why).__name__


def _unreadable(path: str, error: Exception) -> str:
    """Return what is wrong with a file that cannot be read as a checkpoint."""
    with Path(path).open("rb") as file:
        head = file.read(512)  # enough to tell text from a checkpoint
    printed = head.isascii() and head.decode().replace("\n", "").replace("\r", "").isprintable()
    faults = {
        "is empty": not head,
        "is text, not a checkpoint": printed,
        "is cut off or damaged": head.startswith(b"PK") and not zipfile.is_zipfile(path),
        # the loaded object has no items, or its items have no shape
        "holds something else than weights by their names": isinstance(error, AttributeError),
        "is no checkpoint, or holds Python objects beside tensors, which are not loaded": (
            isinstance(error, pickle.UnpicklingError)
        ),
        "is no safetensors file, or is cut off": path.endswith(".safetensors"),
    }
    return next((fault for fault, so in faults.items() if so), "is no checkpoint of PyTorch's")


def _difference(actual: Shapes, expected: Shapes) -> str:
    """Describe how a file's weights differ from those of an architecture, with one example each."""
    lacking = [key for key in expected if key not in actual]
    more = [key for key in actual if key not in expected]
    odd = [key for key in actual if key in expected and actual[key] != expected[key]]
    parts = [f"{len(lacking)} of its weights are missing ({lacking[0]})"] if lacking else []
    parts += [f"{len(more)} are not its own ({more[0]})"] if more else []
    if odd:
        mine, its = ("x".join(map(str, shapes[odd[0]])) for shapes in (actual, expected))
        parts.append(f"{len(odd)} have another size ({odd[0]}: {mine}, not {its})")
    return ", ".join(parts)


def _fitting(shapes: Shapes) -> Iterator[str]:
    """Yield the architectures with these weights whose text tower accepts prompt embeddings."""
    embedding = shapes.get("token_embedding.weight", Size())
    positions = shapes.get("positional_embedding", Size())
    sizes = (*embedding[-1:], *positions[:1])
    for row in architectures():
        row_sizes = (row.text_width, row.context_length)
        if row.refused is None and row.name != "pocket" and row_sizes == sizes:
            with suppress(Exception):  # an architecture that cannot be built is not suggested
                if _shapes(row.name) == shapes:
                    yield row.name


def _shapes(architecture: str) -> Shapes:
    """Return the shapes of an architecture's weights, without allocating them."""
    from open_clip import create_model

    with torch.device("meta"):
        model = create_model(architecture, load_weights=False, device="meta")
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
