"""Checkpoint files: reading them, and why one is not the weights of a backbone."""

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Size, Tensor

from ship.architectures import architectures
from ship.clip.hub import NoWeightsError

Shapes = Mapping[str, Size]

_HEAD = 512  # bytes that tell text from a checkpoint
_NO_WEIGHTS = "holds something else than weights by their names"


def is_torchscript(path: str) -> bool:
    """Whether a file is a TorchScript archive, the form that OpenAI's weights have."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Inside, torch does not warn of odd pickles, nor of TorchScript as a whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def archive_weights(path: str) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by their names."""
    with quiet_torch():
        return dict(torch.jit.load(path, map_location="cpu").state_dict())  # noqa: TID251 - OpenAI's weights are TorchScript archives


def loading_fault(name: str, why: Exception) -> str:
    """Why a backbone's weights could not be loaded and, where that is known, what would do.

    Args:
        name: "pocket" or NAME:PRETRAINED.
        why: what loading it has raised.

    Returns:
        One line. A file is read once more for it.
    """
    from open_clip import list_pretrained_tags_by_model

    architecture, _, pretrained = name.partition(":")
    is_tag = pretrained in list_pretrained_tags_by_model(architecture)
    if not is_tag and Path(pretrained).is_file():
        return _file_fault(pretrained, architecture, why)
    reason = str(why).strip().partition("\n")[0] or type(why).__name__
    if isinstance(why, NoWeightsError) or "ownload" not in reason:
        return reason
    return f"{reason} (without a network, put a file in the tag's place: {architecture}:FILE)"


def _file_fault(path: str, architecture: str, why: Exception) -> str:
    would_do = f"a state_dict of {architecture} in a .pt or .safetensors file would do"
    try:
        weights = _read(path)
    except Exception as error:  # a broken checkpoint may raise anything
        return f"{path} {_unreadable(path, error)}; {would_do}"
    if not isinstance(weights, dict) or not all(isinstance(t, Tensor) for t in weights.values()):
        return f"{path} {_NO_WEIGHTS}; {would_do}"
    found = {key: tensor.shape for key, tensor in weights.items()}
    expected = _shapes(architecture)
    if found == expected:
        return str(why).strip().partition("\n")[0] or type(why).__name__
    fitting = [f"{name}:{path}" for name in _fitting(found)]
    if fitting:
        return f"{path} has the weights of another architecture; write {' or '.join(fitting)}"
    return f"{path} is not of {architecture}: {_difference(found, expected)}; {would_do}"


def _read(path: str) -> Any:
    from open_clip.factory import load_state_dict

    if is_torchscript(path):
        sizes = ("input_resolution", "context_length", "vocab_size")
        return {key: t for key, t in archive_weights(path).items() if key not in sizes}
    with quiet_torch():
        return load_state_dict(path)


def _unreadable(path: str, error: Exception) -> str:
    """What a file is that is no checkpoint."""
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "is empty"
    if head.isascii() and head.decode("ascii").replace("\n", "").replace("\r", "").isprintable():
        return "is text, not a checkpoint"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "is cut off or damaged"
    if isinstance(error, AttributeError):  # load_state_dict asks whatever it has read for items
        return _NO_WEIGHTS
    if isinstance(error, pickle.UnpicklingError):
        return "is no checkpoint, or holds Python objects beside tensors, which are not loaded"
    if path.endswith(".safetensors"):
        return "is no safetensors file, or is cut off"
    return "is no checkpoint of PyTorch's"


def _difference(found: Shapes, expected: Shapes) -> str:
    """How a file's weights differ from those of an architecture, with the first of each kind."""
    lacking = [key for key in expected if key not in found]
    more = [key for key in found if key not in expected]
    odd = [key for key in found if key in expected and found[key] != expected[key]]
    if len(lacking) == len(expected):
        return f"it has none of its {len(expected)} weights"
    parts = [f"{len(lacking)} of its weights are missing ({lacking[0]})"] if lacking else []
    parts += [f"{len(more)} are not its own ({more[0]})"] if more else []
    if odd:
        mine, its = ("x".join(map(str, shapes[odd[0]])) for shapes in (found, expected))
        parts.append(f"{len(odd)} have another size ({odd[0]}: {mine}, not {its})")
    return ", ".join(parts)


def _fitting(found: Shapes) -> Iterator[str]:
    """The architectures that have just these weights, of those that prompts can drive."""
    for row in architectures():
        sizes = (row.text_width, row.context_length)
        embedding, positions = (
            found.get("token_embedding.weight"),
            found.get("positional_embedding"),
        )
        if row.refused is not None or row.name == "pocket" or embedding is None:
            continue
        if positions is None or (embedding[-1], positions[0]) != sizes:
            continue
        try:
            fits = _shapes(row.name) == found
        except Exception:  # one that cannot be built here is not suggested
            continue
        if fits:
            yield row.name


def _shapes(architecture: str) -> Shapes:
    """The sizes of an architecture's weights; nothing is allocated for them."""
    import open_clip

    with torch.device("meta"):
        model = open_clip.create_model(architecture, load_weights=False, device="meta")
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
