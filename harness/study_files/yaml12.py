"""YAML of a study: plain values, no duplicate keys, numbers and booleans as YAML 1.2 reads them.

PyYAML follows YAML 1.1, where 1e-4 is text, `no` is false, 010 is eight and a key given twice is
silently the last. Here the core schema of YAML 1.2 holds, and the node graph is walked under a
budget, so that neither aliases nor depth can blow a small file up.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from harness.errors import ConfigError, Fault

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 20_000  # aliases count as often as they are used

_INT = re.compile(r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {"inf": float("inf"), "+inf": float("inf"), "-inf": -float("inf"), "nan": float("nan")}
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_CORE = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Composes nodes only; resolves no scalar, so that none is read as YAML 1.1 would."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own attribute, emptied


def read_yaml(path: Path, label: str) -> tuple[dict[str, Any], list[Fault]]:
    """The mapping in a YAML file, and the faults that leave it readable (keys given twice).

    Raises:
        ConfigError: the file cannot be read, or is not one mapping in valid YAML; lines begin
            with `label`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw[:MAX_BYTES].decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError([f"{label}: the file must be readable: {reason}"]) from error
    except UnicodeDecodeError as error:
        where = f"byte {error.start}"
        raise ConfigError(
            [f"{label}: the file must be UTF-8 text, and is not at {where}"]
        ) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"{label}: the file must be at most {MAX_BYTES // 1024} KiB"])
    value, faults = _load(text, label)
    if value is None:
        raise ConfigError([f"{label}: the file must hold a study, and is empty"])
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise ConfigError([f"{label}: the file must hold a mapping of keys to values, got {kind}"])
    return value, faults


def parse_value(text: str, label: str) -> Any:
    """One value as YAML, e.g. of --set.

    Raises:
        ConfigError: not valid YAML, or a mapping with a key given twice.
    """
    value, faults = _load(text, label)
    if faults:
        raise ConfigError([fault.line(label) for fault in faults])
    return value


def _load(text: str, label: str) -> tuple[Any, list[Fault]]:
    try:
        _check_depth(text)
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            return None, []
        walk = _Walk()
        return walk.value(root, "", 0), walk.faults
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError([f"{label}: {where}must be valid YAML: {_problem(error)}"]) from error
    except yaml.YAMLError as error:  # characters that no YAML may hold
        reason = str(error).splitlines()[0]
        raise ConfigError([f"{label}: must be valid YAML: {reason}"]) from error


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "indent with spaces, got a tab"
    return f"{error.context}, {problem}" if error.context else problem


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the composer, which recurses, can run out of stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _refused(f"nested more than {MAX_DEPTH} deep", event.start_mark)


def _refused(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


@dataclass
class _Walk:
    """Builds plain values from a node graph, within a budget of nodes."""

    faults: list[Fault] = field(default_factory=list)
    nodes: int = 0

    def value(self, node: Node, path: str, depth: int) -> Any:
        """The value of a node; `path` is where it stands, for faults."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:  # a depth that only aliases reach
            raise _refused("too large once its aliases are written out", node.start_mark)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            _require_tag(node, "seq")
            return [
                self.value(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        return _scalar(node)

    def _mapping(self, node: MappingNode, path: str, depth: int) -> dict[Any, Any]:
        _require_tag(node, "map")
        built: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, path, depth + 1)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                shown = key if isinstance(key, Hashable) else "a collection"
                raise _refused(f"a key must be text, got {shown!r}", key_node.start_mark)
            inner = f"{path}.{key}" if path else key
            value = self.value(value_node, inner, depth + 1)
            if key in built:
                must = f"must be given once, and is on line {lines[key]} and again on line {line}"
                self.faults.append(Fault(inner, must))
                continue
            built[key], lines[key] = value, line
        return built


def _require_tag(node: Node, kind: str) -> None:
    if node.tag not in (_CORE + kind, "!"):
        raise _refused(f"values must be plain, got the tag {node.tag}", node.start_mark)


def _scalar(node: Node) -> Any:
    """A scalar by the core schema of YAML 1.2; quoted ones are text."""
    _require_tag(node, "str")
    text: str = node.value
    quoted = isinstance(node, ScalarNode) and node.style is not None
    if quoted or node.tag == "!":
        return text
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    lowered = text.replace(".", "", 1).lower()
    if "." in text[:2] and lowered in _SPECIAL:
        return _SPECIAL[lowered]
    return text
