"""Read TorchScript archives, and explain why a checkpoint file cannot be loaded."""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Size, Tensor

from ship.architectures import list_architectures, split_name
from ship.hub import summarize_error

Shapes = Mapping[str, Size]


def is_torchscript(path: str) -> bool:
    """Return True if a file is a TorchScript archive, the format of OpenAI's weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive_weights(path: str) -> tuple[dict[str, Tensor], bool]:
    """Return the weights in a TorchScript archive by name, and True if it is one of OpenAI's."""
    weights = dict(torch.jit.load(path, map_location="cpu").state_dict())  # noqa: TID251 - OpenAI's weights are TorchScript archives
    # besides weights, only OpenAI's archives contain these sizes
    sizes = [weights.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    return weights, all(size is not None for size in sizes)


def explain_loading_fault(name: str, error: Exception) -> str:
    """Return the reason why weights could not be loaded, and advice.

    If the name contains the path of a checkpoint file, the file is read again to find the fault.

    Args:
        name: Name of the backbone.
        error: Exception raised by loading.
    """
    from open_clip import list_pretrained_tags_by_model
    from open_clip.factory import load_state_dict

    architecture, path = split_name(name)
    if path in list_pretrained_tags_by_model(architecture) or not Path(path).is_file():
        reason = summarize_error(error)
        if reason.startswith("Failed to download"):
            reason += f" (without a network, use a file instead of the tag: {architecture}:FILE)"
        return reason
    advice = f"Use a .pt or .safetensors file with a state_dict of {architecture}"
    try:
        is_archive = is_torchscript(path)
        weights = read_archive_weights(path)[0] if is_archive else load_state_dict(path)
        shapes = {key: tensor.shape for key, tensor in weights.items()}
    except Exception as reading_error:  # a broken checkpoint may raise anything
        return f"{path} {_describe_unreadable_file(path, reading_error)}. {advice}"
    expected = _compute_weight_shapes(architecture)
    if shapes == expected:
        return summarize_error(error)
    if names := [f"{matching}:{path}" for matching in _find_matching_architectures(shapes)]:
        return f"{path} has the weights of another architecture. Use {' or '.join(names)}"
    return (
        f"{path} does not fit {architecture}: {_describe_differences(shapes, expected)}. {advice}"
    )


def _describe_unreadable_file(path: str, error: Exception) -> str:
    """Return a phrase that says why a file cannot be read as a checkpoint.

    Args:
        path: Path of the file.
        error: Exception raised by reading it.
    """
    with Path(path).open("rb") as file:
        head = file.read(512)  # enough to distinguish text from a checkpoint
    is_text = head.isascii() and head.decode().replace("\n", "").replace("\r", "").isprintable()
    faults = {
        "is empty": not head,
        "is text, not a checkpoint": is_text,
        "is truncated or damaged": head.startswith(b"PK") and not zipfile.is_zipfile(path),
        # the loaded object has no items(), or its values have no shape
        "does not map names to weights": isinstance(error, AttributeError),
        "is not a checkpoint, or contains Python objects, which are not loaded": (
            isinstance(error, pickle.UnpicklingError)
        ),
        "is not a safetensors file, or is truncated": path.endswith(".safetensors"),
    }
    applicable = (fault for fault, applies in faults.items() if applies)
    return next(applicable, "is not a PyTorch checkpoint")


def _describe_differences(actual: Shapes, expected: Shapes) -> str:
    """Describe how a file's weights differ from an architecture's: counts, with an example each."""
    differences = []
    if missing := [key for key in expected if key not in actual]:
        differences.append(f"{len(missing)} of its weights are missing ({missing[0]})")
    if unknown := [key for key in actual if key not in expected]:
        differences.append(f"{len(unknown)} are unknown ({unknown[0]})")
    if other_shape := [k for k in actual if k in expected and actual[k] != expected[k]]:
        example = other_shape[0]
        size, expected_size = ("x".join(map(str, shapes[example])) for shapes in (actual, expected))
        differences.append(
            f"{len(other_shape)} have another shape ({example}: got {size}, not {expected_size})"
        )
    return ", ".join(differences)


def _find_matching_architectures(shapes: Shapes) -> Iterator[str]:
    """Yield the supported architectures whose weights have these names and shapes."""
    embedding = shapes.get("token_embedding.weight", Size())
    positions = shapes.get("positional_embedding", Size())
    text_sizes = (*embedding[-1:], *positions[:1])
    for entry in list_architectures():
        is_supported = entry.refusal is None and entry.name != "pocket"
        # the text sizes are compared first, because building an architecture takes time
        if is_supported and (entry.text_width, entry.context_length) == text_sizes:
            with suppress(Exception):  # an architecture that cannot be built is not suggested
                if _compute_weight_shapes(entry.name) == shapes:
                    yield entry.name


def _compute_weight_shapes(architecture: str) -> Shapes:
    """Return the shapes of an architecture's weights, without allocating them."""
    from open_clip import create_model

    with torch.device("meta"):
        model = create_model(architecture, load_weights=False, device="meta")
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
