"""Read TorchScript archives, and explain why a checkpoint file cannot be loaded."""

import codecs
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
    """Return the weights in a TorchScript archive by name, and whether OpenAI released it.

    The three sizes that OpenAI's archives contain in addition are not returned.
    """
    weights = dict(torch.jit.load(path, map_location="cpu").state_dict())  # noqa: TID251 - OpenAI's weights are TorchScript archives
    # OpenAI's archives also contain these three sizes, other archives do not
    sizes = [weights.pop(key, None) for key in ("input_resolution", "context_length", "vocab_size")]
    return weights, all(size is not None for size in sizes)


def explain_loading_error(name: str, error: Exception) -> str:
    """Return the reason why weights could not be loaded, and advice.

    If the name contains the path of a checkpoint file, the file is read again to find out what is
    wrong with it.

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
        if is_torchscript(path):
            weights, _ = read_archive_weights(path)
        else:
            weights = load_state_dict(path)
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
    if not head:
        return "is empty"
    if _is_text(head):
        return "is text, not a checkpoint"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "is truncated or damaged"
    if isinstance(error, AttributeError):  # the object has no items(), or its values have no shape
        return "does not map names to weights"
    if isinstance(error, pickle.UnpicklingError):
        return (
            "is not a checkpoint, or contains pickled Python objects, which are refused for safety"
        )
    if path.endswith(".safetensors"):
        return "is not a safetensors file, or is truncated"
    return "is not a PyTorch checkpoint"


def _is_text(head: bytes) -> bool:
    """Return True if the first bytes of a file are printable UTF-8 text."""
    try:
        # unlike bytes.decode, this accepts that the last character may be incomplete
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r" for character in text)


def _describe_differences(actual: Shapes, expected: Shapes) -> str:
    """Return the numbers of missing, unknown and differently shaped weights, each with an example.

    Args:
        actual: Shapes of the weights in a file, by name.
        expected: Shapes of an architecture's weights, by name.
    """
    differences = []
    if missing := [key for key in expected if key not in actual]:
        differences.append(f"missing weights: {len(missing)} (e.g. {missing[0]})")
    if unknown := [key for key in actual if key not in expected]:
        differences.append(f"unknown weights: {len(unknown)} (e.g. {unknown[0]})")
    if misshapen := [key for key in actual if key in expected and actual[key] != expected[key]]:
        example = misshapen[0]
        shapes = f"expected {tuple(expected[example])}, got {tuple(actual[example])}"
        differences.append(f"wrong shapes: {len(misshapen)} (e.g. {example}: {shapes})")
    return "; ".join(differences)


def _find_matching_architectures(shapes: Shapes) -> Iterator[str]:
    """Yield the supported architectures whose weights have these names and shapes."""
    # open_clip's CustomTextCLIP has the text tower in its attribute `text`
    prefix = "text." if "text.token_embedding.weight" in shapes else ""
    embedding = shapes.get(f"{prefix}token_embedding.weight", Size())
    positions = shapes.get(f"{prefix}positional_embedding", Size())
    if len(embedding) != 2 or len(positions) != 2:
        return
    text_width, context_length = embedding[1], positions[0]
    for entry in list_architectures():
        # pocket is packaged with its weights and not loaded from files
        is_supported = entry.refusal is None and entry.name != "pocket"
        # the text sizes are compared first, because building an architecture takes time
        has_sizes = (entry.text_width, entry.context_length) == (text_width, context_length)
        if is_supported and has_sizes:
            with suppress(Exception):  # an architecture that cannot be built is not suggested
                if _compute_weight_shapes(entry.name) == shapes:
                    yield entry.name


def _compute_weight_shapes(architecture: str) -> Shapes:
    """Return the shapes of an architecture's weights without allocating the weights."""
    from open_clip import create_model

    with torch.device("meta"):
        model = create_model(architecture, load_weights=False, device="meta")
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
