"""Find a study's YAML file, and parse YAML 1.2 as plain values.

Refuses values that JSON lacks, such as dates and tagged values, and small files whose aliases
expand to a large text. harness.config validates the values. Does not import torch.
"""

import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

import search_spaces
from harness.errors import ConfigError, Fault, UserError
from harness.wording import describe_error, find_closest, show
from ship.whole_file import read_whole, write_whole

MAX_BYTES = 256 * 1024  # size of a YAML file
MAX_TEXT = 2**20  # characters of a value as JSON, with aliases expanded

_FOLDER = Path(search_spaces.__path__[0]).resolve()


def list_packaged_names() -> tuple[str, ...]:
    """Return the names of the packaged studies, without .yaml."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def list_packaged_spaces() -> list[tuple[str, str]]:
    """Return the name and the one-line description of each packaged study."""
    studies = {name: read_yaml(_FOLDER / f"{name}.yaml", name) for name in list_packaged_names()}
    return [(name, str(study.get("description", ""))) for name, study in studies.items()]


def copy_packaged(name: str) -> Path:
    """Write a packaged study's YAML into the working directory, and return its path.

    Args:
        name: Name of the study, with or without .yaml.

    Raises:
        UserError: There is no such study, or the file exists already or cannot be written.
    """
    stem = name.removesuffix(".yaml")
    if stem not in list_packaged_names():
        raise _make_unknown_study_error_(
            Fault("NAME", "must be the name of a packaged study", name), stem
        )
    path = Path(f"{stem}.yaml")
    if os.path.lexists(path):
        raise ConfigError(
            [f"{path}: the file exists and was not changed. Move it, or use another folder"]
        )
    write_for_user(path, (_FOLDER / path).read_bytes())
    return path


def write_for_user(path: Path, content: bytes) -> None:
    """Write a file atomically, with an error for the user.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def find_space(path_or_name: str | Path) -> Path:
    """Return the YAML file of a study.

    Args:
        path_or_name: Path of a file, or name of a packaged study. ".yaml" may be omitted. An
            existing path is preferred.

    Raises:
        ConfigError: There is no such file, or the argument is neither text nor a path. The message
            lists the packaged studies.
    """
    rule = "must be a YAML file or the name of a packaged study"
    if not isinstance(path_or_name, str | Path):
        raise _make_unknown_study_error_(
            Fault("the study", f"{rule}, got a value of type {type(path_or_name).__name__}")
        )
    requested = Path(path_or_name)
    candidates = [requested, Path(f"{path_or_name}.yaml")]
    if len(requested.parts) == 1:
        candidates += [_FOLDER / requested.name, _FOLDER / f"{requested.name}.yaml"]
    for path in candidates:
        with suppress(OSError):  # a name that is too long is not found either
            if path.is_file():
                return path
    raise _make_unknown_study_error_(Fault("the study", rule, str(path_or_name)), requested.stem)


def _make_unknown_study_error_(fault: Fault, name: str = "") -> ConfigError:
    """Return the error for an unknown study, which lists the packaged ones.

    Args:
        fault: The fault, to which the packaged studies are added.
        name: Unknown name. The most similar packaged study is suggested.
    """
    names = list_packaged_names()
    return ConfigError([replace(fault, choices=names, suggestion=find_closest(name, names)).text])


def get_file_label(path: Path) -> str:
    """Return a file's name for messages: its path, or search_spaces/NAME if it is packaged."""
    is_packaged = path.is_absolute() and path.parent == _FOLDER
    return f"search_spaces/{path.name}" if is_packaged else str(path)


def read_yaml(path: Path, label: str) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Args:
        path: The file.
        label: Name of the file in messages.

    Raises:
        ConfigError: The file cannot be read, or is not a mapping in valid YAML.
    """
    try:
        text = read_whole(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{label}: the file must be UTF-8: {describe_error(error)}"]) from error
    except ValueError as error:
        raise ConfigError(
            [f"{label}: {describe_error(error).removeprefix(f'{path}: ')}"]
        ) from error
    value = parse_value(text, label)
    if not isinstance(value, dict):
        rule = f"the file must contain a mapping of keys to values, got {show(value)}"
        raise ConfigError([f"{label}: {rule}"])
    return value


def parse_value(text: str, label: str) -> Any:
    """Parse a YAML text, such as the value of --set.

    Args:
        text: The text.
        label: Name of its source in messages.

    Raises:
        ConfigError: The text is not valid YAML, JSON lacks a value, or a key is repeated.
    """
    reader = YAML(typ="safe", pure=True)
    reader.composer.warn_double_anchors = False  # a repeated anchor is valid YAML
    try:
        value = reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        fault = f"{position}invalid YAML: {error.problem or error.context}"
    except Exception as error:  # e.g. of tags, whose errors have many types
        fault = f"invalid YAML: {describe_error(error)}"
    else:
        return to_json(value, label)
    raise ConfigError([f"{label}: {fault}"])


def format_yaml(tree: Mapping[str, Any]) -> str:
    """Return a mapping of values that JSON has as YAML, in the mapping's order."""
    writer, text = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(dict(tree), text)
    return text.getvalue()


def to_json(root: Any, label: str) -> Any:
    """Return a copy with JSON's types: keys are text, and tuples become lists.

    Args:
        root: The value.
        label: Name of its source in messages.

    Raises:
        ConfigError: A value has a type without equivalent in JSON, a value contains itself, two
            keys are equal as text, or the JSON has more than MAX_TEXT characters.
    """
    encoder = json.JSONEncoder(default=_convert_value, check_circular=False)
    chunks, characters_left = [], MAX_TEXT
    try:
        for chunk in encoder.iterencode(root):
            chunks.append(chunk)
            characters_left -= len(chunk)
            if characters_left < 0:
                raise ValueError("too large after its aliases are expanded")
        return json.loads("".join(chunks), object_pairs_hook=_build_mapping)
    except RecursionError as error:
        raise ConfigError(
            [f"{label}: values must not be nested too deeply or contain themselves"]
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{label}: {describe_error(error)}"]) from error


def _build_mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of (key, value) pairs.

    Raises:
        ValueError: Two keys are equal.
    """
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("keys must be unique (1 and '1' are the same key)")
    return mapping


def _convert_value(value: Any) -> Any:
    """Convert a mapping or a number of a type that json does not know, such as numpy's.

    Raises:
        TypeError: The value is neither a mapping nor a number.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(
        f'unsupported value of type {type(value).__name__}. Quote it to use it as text: "{value}"'
    )
