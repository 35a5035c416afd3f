"""Where a study's YAML lies, and its text as plain values, as YAML 1.2 reads them.

ruamel.yaml reads it. What it would also make of a text is refused here: values of other types, by
tags or as a date, and a small file that depth or aliases make a large one. What the values mean is
harness.config's. Light: nothing of it imports torch.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.parser import Parser

import search_spaces
from harness.errors import ConfigError, Fault, UserError
from harness.wording import nearest, one_line, show
from ship.whole_file import write_whole

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_VALUES = 20_000  # aliases count as often as they are used
PLAIN = (str, int, float, type(None))

_FOLDER = Path(search_spaces.__path__[0]).resolve()


def packaged_names() -> tuple[str, ...]:
    """Names of the packaged studies, without .yaml."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def packaged_spaces() -> list[tuple[str, str]]:
    """(name, one-line description) of each packaged study."""
    rows = []
    for name in packaged_names():
        mapping = read_yaml(_FOLDER / f"{name}.yaml", name)
        rows.append((name, str(mapping.get("description", ""))))
    return rows


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
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name too long, or with a null byte
            continue
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
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:  # not decoded: it may end within a character
            raise ConfigError([f"{label}: the file must be at most {MAX_BYTES // 1024} KiB"])
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{label}: the file cannot be read: {one_line(error)}"]) from error
    value = parse_value(text, label)
    if not isinstance(value, dict):
        must = f"the file must hold a mapping of keys to values, got {show(value)}"
        raise ConfigError([f"{label}: {must}"])
    return value


class _Untagged(Parser):
    """Refuses tags where they stand, before anything is made of what they tag."""

    def parse_node(self, block: bool = False, indentless_sequence: bool = False) -> Any:
        event = super().parse_node(block, indentless_sequence)
        if tag := getattr(event, "tag", None):
            problem = f"values must be plain, got the tag {tag}"
            raise MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return event


def parse_value(text: str, label: str) -> Any:
    """One value as YAML, e.g. of --set.

    Raises:
        ConfigError: not valid YAML, not plain, or a mapping with a key given twice.
    """
    reader = YAML(typ="safe", pure=True)
    reader.Parser = _Untagged
    reader.composer.warn_double_anchors = False  # the last one holds, as YAML says
    try:
        value = reader.load(text)
        _check_values(value)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        told = f"{where}must be valid YAML: {error.problem or error.context}"
    except (YAMLError, ValueError, RecursionError) as error:
        told = f"must be valid YAML: {one_line(error)}"
    else:
        return value
    raise ConfigError([f"{label}: {told}"])


def _check_values(root: Any) -> None:
    """Refuse what is no plain value, and more values than a study has; an alias may hold itself."""
    left, n_values = [(root, 0)], 0
    while left:
        value, depth = left.pop()
        n_values += 1
        if n_values > MAX_VALUES:
            raise YAMLError("too large once its aliases are written out")
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                raise YAMLError(f"nested more than {MAX_DEPTH} deep")
            for key in value if isinstance(value, dict) else ():
                if not isinstance(key, str):
                    raise YAMLError(f"a key must be text, got {key!r}")
            inside = value.values() if isinstance(value, dict) else value
            left += [(one, depth + 1) for one in inside]
        elif not isinstance(value, PLAIN):
            raise YAMLError(f"values must be plain: quote {value}")
