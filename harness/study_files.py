"""Where a study's YAML lies, and its text as plain values, as YAML 1.2 reads them.

ruamel.yaml reads it. What it would also make of a text is refused here: values of other types, by
tags or as a date, and a small file that aliases make a large one. What the values mean is
harness.config's. Light: nothing of it imports torch.
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
from harness.wording import nearest, one_line, show
from ship.whole_file import read_whole, write_whole

MAX_BYTES = 256 * 1024
MAX_TEXT = 2**20  # characters of a study as JSON, in which aliases are written out

_FOLDER = Path(search_spaces.__path__[0]).resolve()


def packaged_names() -> tuple[str, ...]:
    """Names of the packaged studies, without .yaml."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def packaged_spaces() -> list[tuple[str, str]]:
    """(name, one-line description) of each packaged study."""
    studies = {name: read_yaml(_FOLDER / f"{name}.yaml", name) for name in packaged_names()}
    return [(name, str(study.get("description", ""))) for name, study in studies.items()]


def copy_packaged(name: str) -> Path:
    """Write a packaged study's YAML into the working directory; what is there is left as it is.

    Args:
        name: of the study, with or without .yaml.

    Raises:
        UserError: there is no such study, or the file is there or cannot be written.
    """
    stem = name.removesuffix(".yaml")
    if stem not in packaged_names():
        raise _refusal(Fault("--copy", "must name a packaged study", name), stem)
    path = Path(f"{stem}.yaml")
    if os.path.lexists(path):
        raise ConfigError([f"{path}: is there already, and was left as it is"])
    write_for_user(path, (_FOLDER / path).read_bytes())
    return path


def write_for_user(path: Path, content: bytes) -> None:
    """Write a file that somebody has asked for, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def find_space(path_or_name: str | Path) -> Path:
    """The YAML file that a user means; .yaml may be left out.

    Raises:
        ConfigError: there is none, or what was given is no name; the line lists the packaged names.
    """
    must = "must be a YAML file or a packaged space"
    if not isinstance(path_or_name, str | Path):
        raise _refusal(Fault("the study", f"{must}, got a {type(path_or_name).__name__}"))
    given = Path(path_or_name)
    candidates = [given, Path(f"{path_or_name}.yaml")]
    if len(given.parts) == 1:
        candidates += [_FOLDER / given.name, _FOLDER / f"{given.name}.yaml"]
    for path in candidates:
        with suppress(OSError):  # a name too long
            if path.is_file():
                return path
    raise _refusal(Fault("the study", must, str(path_or_name)), given.stem)


def _refusal(fault: Fault, meant: str = "") -> ConfigError:
    """The error with the packaged studies, behind the one that was probably meant."""
    names = packaged_names()
    return ConfigError([replace(fault, choices=names, near=nearest(meant, names)).text])


def file_label(path: Path) -> str:
    """How faults name a file: as given, a packaged one as search_spaces/NAME.yaml."""
    inside = path.is_absolute() and path.parent == _FOLDER
    return f"search_spaces/{path.name}" if inside else str(path)


def read_yaml(path: Path, label: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, or is not one mapping in valid YAML; lines begin
            with `label`.
    """
    try:
        text = read_whole(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{label}: the file must be UTF-8: {one_line(error)}"]) from error
    except ValueError as error:
        raise ConfigError([f"{label}: {one_line(error).removeprefix(f'{path}: ')}"]) from error
    value = parse_value(text, label)
    if not isinstance(value, dict):
        must = f"the file must hold a mapping of keys to values, got {show(value)}"
        raise ConfigError([f"{label}: {must}"])
    return value


def parse_value(text: str, label: str) -> Any:
    """One value as YAML, e.g. of --set.

    Raises:
        ConfigError: not valid YAML, not plain, or a mapping with a key given twice.
    """
    reader = YAML(typ="safe", pure=True)
    reader.composer.warn_double_anchors = False  # the last one holds, as YAML says
    try:
        value = reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        told = f"{where}must be valid YAML: {error.problem or error.context}"
    except Exception as error:  # ruamel's other ones, and whatever a tag makes of its text
        told = f"must be valid YAML: {one_line(error)}"
    else:
        return plain(value, label)
    raise ConfigError([f"{label}: {told}"])


def yaml_text(tree: Mapping[str, Any]) -> str:
    """Return a mapping of plain values as YAML."""
    writer, text = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(dict(tree), text)
    return text.getvalue()


def plain(root: Any, label: str) -> Any:
    """A copy as JSON would have it: dicts with texts for keys, and lists in the place of tuples.

    Raises:
        ConfigError: a value of another type, one that holds itself, or too many of them.
    """
    parts, room = [], MAX_TEXT
    try:
        for part in json.JSONEncoder(default=_as_plain, check_circular=False).iterencode(root):
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise ValueError("too large once its aliases are written out")
        return json.loads("".join(parts), object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ConfigError([f"{label}: must not be nested so deep, or hold itself"]) from error
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{label}: {one_line(error)}"]) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key must be given once, also as 1 and '1'")
    return found


def _as_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Real):  # of numpy
        return int(value) if isinstance(value, Integral) else float(value)
    raise TypeError(f"values must be plain, got a {type(value).__name__}: quote {value}")
