"""The weights of a backbone: its name, where they lie, which they are, and why there are none."""

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

# Weights drawn at random with a fixed seed: for benchmarks and tests of shapes, never for results.
RANDOM: Final = "random"
# What open_clip looks for on the hub where a tag names no file.
_UNNAMED: Final = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
# What of a layer decides its function beside its weights, by the layer's kind; and QuickGELU.
_DECIDING: Final[Mapping[type[nn.Module], tuple[str, ...]]] = {
    nn.MultiheadAttention: ("num_heads",),
    nn.LayerNorm: ("eps",),
    nn.BatchNorm2d: ("eps",),
    nn.Conv2d: ("stride", "padding", "dilation", "groups"),
    nn.GELU: ("approximate",),
    nn.ReLU: (),
    nn.SiLU: (),
}
# What of a text tower does; CLIP names its pooling otherwise than CustomTextCLIP's tower.
_TOWER: Final = ("context_length", "text_pool_type", "pool_type")

Shapes = Mapping[str, Size]


def check_backbone_name(name: str) -> None:
    """Check a backbone's name, and that prompts can drive it, without loading its weights.

    Raises:
        BackboneError: one line with the name and the nearest choices, or what stands in the way.
    """
    if name == "pocket":
        return
    from open_clip import list_models, list_pretrained_tags_by_model

    architecture, _, pretrained = name.partition(":")
    known = list_models()
    if architecture not in known:
        near = get_close_matches(architecture, ["pocket", *known], n=3)
        hint = f"nearest: {', '.join(near)}" if near else "see ship-sweep --list-backbones"
        if not pretrained and _is_path(name):
            hint = f"a file needs the architecture whose weights it has: ViT-B-16:{name}"
        must = "must be pocket or an open_clip NAME:PRETRAINED"
        raise BackboneError(f"{must}, got {name!r} ({hint})")
    if refused := drivable(architecture):
        must = "must be a backbone that prompts can drive"
        raise BackboneError(f"{must}, got {name!r} ({refused})")
    tags = list_pretrained_tags_by_model(architecture)
    if pretrained == RANDOM or pretrained in tags or Path(pretrained).is_file():
        return
    plain = architecture.removesuffix("-quickgelu")
    must = f"must name pretrained weights as {architecture}:PRETRAINED"
    if pretrained in list_pretrained_tags_by_model(plain):
        must = f"must be {plain}:{pretrained}"
        hint = "whose weights were trained without QuickGELU"
    elif pretrained and Path(pretrained).is_dir():
        hint = f"{pretrained} is a folder: name the checkpoint file in it"
    elif _is_path(pretrained):
        hint = f"no such file: {pretrained}"
    else:
        hint = "choices: " + ", ".join([*tags, "a checkpoint file"])
    raise BackboneError(f"{must}, got {name!r} ({hint})")


def _is_path(name: str) -> bool:
    """Whether somebody means a file by this, be it there or not."""
    return "/" in name or "." in name


def load_model(name: str) -> tuple[nn.Module, Any]:
    """The model and the tokenizer of a name that check_backbone_name lets pass.

    Raises:
        BackboneError: one line why the weights cannot be had and, where that is known, what would
            do.
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
            # open_clip only warns where the weights' activation is not the architecture's
            force_quick_gelu=bool(entry.get("quick_gelu", False)),
            # with a file in the tag's place it is not read; the size is the architecture's
            force_preprocess_cfg={k: value for k, value in entry.items() if k != "size"},
        )
    else:
        weights, is_openais = _archive_weights(pretrained)
        # all of OpenAI's archives have QuickGELU
        model = create_model(architecture, load_weights=False, force_quick_gelu=is_openais)
        model.load_state_dict(weights)
    return model


def _weights_on_hub(architecture: str, entry: Mapping[str, Any]) -> str | None:
    """The path of a tag's weights: from the cache of the Hugging Face Hub, else downloaded.

    open_clip asks the network each time, whatever the cache has, and without a network it takes
    three quarters of a minute to say so.

    Args:
        architecture: whose tag it is.
        entry: what open_clip knows of the tag; empty: nothing, as of a file's path.

    Returns:
        None for a tag whose weights are not on the hub: open_clip knows where they are.
    Raises:
        FileNotFoundError: they are not in the cache, and the hub does not answer; says what would
            do.
        Exception: whatever open_clip raises for a download that fails.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError
    from open_clip.pretrained import download_pretrained

    repository, _, name = entry.get("hf_hub", "").rpartition("/")
    if not repository or "file" in entry:
        return None
    # as open_clip looks for them: safetensors first
    names = [Path(name).with_suffix(".safetensors").name, name] if name else _UNNAMED
    for found in (try_to_load_from_cache(repository, name) for name in names):
        if isinstance(found, str):
            return found
    try:
        get_hf_file_metadata(hf_hub_url(repository, names[0]), timeout=5.0)
    except HfHubHTTPError:
        pass  # an answer; what else the hub has of these weights, open_clip will see
    except Exception as error:  # of many kinds, by the version and its HTTP client
        raise FileNotFoundError(
            f"its weights are not in {HF_HUB_CACHE}, and the hub does not answer "
            f"({_first_line(error).rstrip('.')}). On a machine with a network, ship-sweep --space "
            "FILE --prefetch downloads puts them below the folder that HF_HOME names, which has to "
            "be one that this machine sees; a file may stand in the tag's place, too: "
            f"{architecture}:FILE"
        ) from error
    return str(download_pretrained(entry))


def _is_torchscript(path: str) -> bool:
    """Whether a file is a TorchScript archive, the form that OpenAI's weights have."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _archive_weights(path: str) -> tuple[dict[str, Tensor], bool]:
    """The tensors of a TorchScript archive by their names, and whether it is one of OpenAI's."""
    weights = dict(torch.jit.load(path, map_location="cpu").state_dict())  # noqa: TID251 - OpenAI's weights are TorchScript archives
    # OpenAI's archives alone keep these beside the weights
    sizes = [weights.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    return weights, all(size is not None for size in sizes)


def fingerprint(model: nn.Module, config: Mapping[str, Any] | None = None) -> str:
    """Hash of all that decides a model's numbers: weights, layers' settings, and architecture.

    The activation is that of the layers as they are built, whatever the configuration names: the
    weights decide it (ViT-B-16:openai has QuickGELU, too). What a release of torch may change
    without changing a number, as how a model is printed, stays out.

    Args:
        model: a CLIP of open_clip.
        config: open_clip's configuration of its architecture; None where there is none.

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
    """What to say of weights whose loading has raised something; a file is read again for it."""
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
        found = {key: tensor.shape for key, tensor in weights.items()}
    except Exception as error:  # a broken checkpoint may raise anything
        return f"{path} {_unreadable(path, error)}; {would_do}"
    expected = _shapes(architecture)
    if found == expected:
        return _first_line(why)
    if fitting := [f"{other}:{path}" for other in _fitting(found)]:
        return f"{path} has the weights of another architecture; write {' or '.join(fitting)}"
    return f"{path} is not of {architecture}: {_difference(found, expected)}; {would_do}"


def _first_line(why: Exception) -> str:
    """Of a message; of none, what was raised."""
    return str(why).strip().partition("\n")[0] or type(why).__name__


def _unreadable(path: str, error: Exception) -> str:
    """What a file is that is no checkpoint."""
    with Path(path).open("rb") as file:
        head = file.read(512)  # enough to tell text from a checkpoint
    printed = head.isascii() and head.decode().replace("\n", "").replace("\r", "").isprintable()
    faults = {
        "is empty": not head,
        "is text, not a checkpoint": printed,
        "is cut off or damaged": head.startswith(b"PK") and not zipfile.is_zipfile(path),
        # whatever was read is asked for items, and they for their shapes
        "holds something else than weights by their names": isinstance(error, AttributeError),
        "is no checkpoint, or holds Python objects beside tensors, which are not loaded": (
            isinstance(error, pickle.UnpicklingError)
        ),
        "is no safetensors file, or is cut off": path.endswith(".safetensors"),
    }
    return next((fault for fault, so in faults.items() if so), "is no checkpoint of PyTorch's")


def _difference(found: Shapes, expected: Shapes) -> str:
    """How a file's weights differ from those of an architecture, with the first of each kind."""
    lacking = [key for key in expected if key not in found]
    more = [key for key in found if key not in expected]
    odd = [key for key in found if key in expected and found[key] != expected[key]]
    parts = [f"{len(lacking)} of its weights are missing ({lacking[0]})"] if lacking else []
    parts += [f"{len(more)} are not its own ({more[0]})"] if more else []
    if odd:
        mine, its = ("x".join(map(str, shapes[odd[0]])) for shapes in (found, expected))
        parts.append(f"{len(odd)} have another size ({odd[0]}: {mine}, not {its})")
    return ", ".join(parts)


def _fitting(found: Shapes) -> Iterator[str]:
    """The architectures that have just these weights, of those that prompts can drive."""
    embedding = found.get("token_embedding.weight", Size())
    positions = found.get("positional_embedding", Size())
    sizes = (*embedding[-1:], *positions[:1])
    for row in architectures():
        own = (row.text_width, row.context_length)
        if row.refused is None and row.name != "pocket" and own == sizes:
            with suppress(Exception):  # one that cannot be built here is not suggested
                if _shapes(row.name) == found:
                    yield row.name


def _shapes(architecture: str) -> Shapes:
    """The sizes of an architecture's weights; nothing is allocated for them."""
    from open_clip import create_model

    with torch.device("meta"):
        model = create_model(architecture, load_weights=False, device="meta")
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
