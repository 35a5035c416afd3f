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
    """Return True if a file is a TorchScript archive, like OpenAI's weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive_weights(path: str) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors of a TorchScript archive by name, and whether it is one of OpenAI's."""
    weights = dict(torch.jit.load(path, map_location="cpu").state_dict())  # noqa: TID251 - OpenAI's weights are TorchScript archives
    # only OpenAI's archives contain these in addition to the weights
    sizes = [weights.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    return weights, all(size is not None for size in sizes)


def explain_loading_fault(name: str, why: Exception) -> str:
    """Explain why weights could not be loaded, reading a checkpoint file again.

    Args:
        name: Name of the backbone.
        why: Exception raised by loading.
    """
    from open_clip import list_pretrained_tags_by_model
    from open_clip.factory import load_state_dict

    architecture, path = split_name(name)
    if path in list_pretrained_tags_by_model(architecture) or not Path(path).is_file():
        reason = summarize_error(why)
        if reason.startswith("Failed to download"):
            reason += f" (without a network, use a file instead of the tag: {architecture}:FILE)"
        return reason
    advice = f"Use a .pt or .safetensors file with a state_dict of {architecture}"
    try:
        archived = is_torchscript(path)
        weights = read_archive_weights(path)[0] if archived else load_state_dict(path)
        shapes = {key: tensor.shape for key, tensor in weights.items()}
    except Exception as error:  # a broken checkpoint may raise anything
        return f"{path} {_describe_unreadable_file(path, error)}. {advice}"
    expected = _compute_weight_shapes(architecture)
    if shapes == expected:
        return summarize_error(why)
    if fitting := [f"{other}:{path}" for other in _find_matching_architectures(shapes)]:
        return f"{path} has the weights of another architecture. Use {' or '.join(fitting)}"
    return (
        f"{path} does not fit {architecture}: {_describe_differences(shapes, expected)}. {advice}"
    )


def _describe_unreadable_file(path: str, error: Exception) -> str:
    """Return the fault of a file that cannot be read as a checkpoint."""
    with Path(path).open("rb") as file:
        head = file.read(512)  # enough to distinguish text from a checkpoint
    is_text = head.isascii() and head.decode().replace("\n", "").replace("\r", "").isprintable()
    faults = {
        "is empty": not head,
        "is text, not a checkpoint": is_text,
        "is truncated or damaged": head.startswith(b"PK") and not zipfile.is_zipfile(path),
        # the loaded object has no items, or its items have no shape
        "does not map names to weights": isinstance(error, AttributeError),
        "is not a checkpoint, or contains Python objects, which are not loaded": (
            isinstance(error, pickle.UnpicklingError)
        ),
        "is not a safetensors file, or is truncated": path.endswith(".safetensors"),
    }
    applicable = (fault for fault, applies in faults.items() if applies)
    return next(applicable, "is not a PyTorch checkpoint")


def _describe_differences(actual: Shapes, expected: Shapes) -> str:
    """Describe how a file's weights differ from those of an architecture, with one example each."""
    lacking = [key for key in expected if key not in actual]
    unknown_keys = [key for key in actual if key not in expected]
    keys = [key for key in actual if key in expected and actual[key] != expected[key]]
    parts = [f"{len(lacking)} of its weights are missing ({lacking[0]})"] if lacking else []
    parts += [f"{len(unknown_keys)} are unknown ({unknown_keys[0]})"] if unknown_keys else []
    if keys:
        got, size = ("x".join(map(str, shapes[keys[0]])) for shapes in (actual, expected))
        parts.append(f"{len(keys)} have another shape ({keys[0]}: got {got}, not {size})")
    return ", ".join(parts)


def _find_matching_architectures(shapes: Shapes) -> Iterator[str]:
    """Yield the architectures with these weights whose text tower accepts prompt embeddings."""
    embedding = shapes.get("token_embedding.weight", Size())
    positions = shapes.get("positional_embedding", Size())
    sizes = (*embedding[-1:], *positions[:1])
    for row in list_architectures():
        row_sizes = (row.text_width, row.context_length)
        if row.refusal is None and row.name != "pocket" and row_sizes == sizes:
            with suppress(Exception):  # an architecture that cannot be built is not suggested
                if _compute_weight_shapes(row.name) == shapes:
                    yield row.name


def _compute_weight_shapes(architecture: str) -> Shapes:
    """Return the shapes of an architecture's weights, without allocating them."""
    from open_clip import create_model

    with torch.device("meta"):
        model = create_model(architecture, load_weights=False, device="meta")
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
