"""YAML of a study: plain values, no duplicate keys, numbers and booleans as YAML 1.2 reads them.

ruamel.yaml reads YAML 1.2. Its node graph is walked here under a budget, so that neither aliases
nor depth can blow a small file up, and so that every key that is given twice is told with its path
and lines: ruamel.yaml itself would stop at the first.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from harness.errors import ConfigError, Fault

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 20_000  # aliases count as often as they are used

_CORE = "tag:yaml.org,2002:"
# what a plain scalar is, the first that fits; text if none does
_SCALARS = {
    "null": re.compile(r"(~|null|Null|NULL)?"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
# tags that a text may spell out, beside "!"
_SPELT = {
    ScalarEvent: f"{_CORE}str",
    SequenceStartEvent: f"{_CORE}seq",
    MappingStartEvent: f"{_CORE}map",
}


class _CoreSchema(VersionedResolver):
    """YAML 1.2's core schema to the letter: ruamel.yaml also knows 1_000, 0b1, dates and <<."""

    processing_version = (1, 2)  # whatever a %YAML line says

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node that spells out none."""
        if kind is ScalarNode and implicit[0]:
            for name, pattern in _SCALARS.items():
                if pattern.fullmatch(value):
                    return Tag(suffix=f"{_CORE}{name}")
        return super().resolve(kind, value, (False, False))


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


def _reader() -> YAML:
    reader = YAML(typ="safe", pure=True)
    reader.Resolver = _CoreSchema
    reader.composer.warn_double_anchors = False  # the last one holds, as YAML says
    return reader


def _load(text: str, label: str) -> tuple[Any, list[Fault]]:
    try:
        _check_events(text)
        reader = _reader()
        root = reader.compose(text)
        if root is None:
            return None, []
        walk = _Walk(reader.constructor)
        return walk.value(root, "", 0), walk.faults
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError([f"{label}: {where}must be valid YAML: {_problem(error)}"]) from error
    except YAMLError as error:  # characters that no YAML may hold
        reason = str(error).splitlines()[0]
        raise ConfigError([f"{label}: must be valid YAML: {reason}"]) from error


def _problem(error: MarkedYAMLError) -> str:
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "indent with spaces, got a tab"
    if problem == "mapping values are not allowed here":
        return (
            f"{problem}; quote a text that has a colon and a space, write image_folder:NAME "
            f"without the space, and indent a key as the keys beside it"
        )
    return f"{error.context}, {problem}" if error.context else problem


def _check_events(text: str) -> None:
    """Refuse tags, and depth before the composer, which recurses, can run out of stack."""
    depth = 0
    for event in _reader().parse(text):
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _refused(f"nested more than {MAX_DEPTH} deep", event.start_mark)
        tag = event.tag if type(event) in _SPELT else None
        if tag not in (None, "!", _SPELT.get(type(event))):
            raise _refused(f"values must be plain, got the tag {tag}", event.start_mark)


def _refused(problem: str, mark: Any) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=mark)


@dataclass
class _Walk:
    """Builds plain values from a node graph, within a budget of nodes.

    scalars: ruamel.yaml's constructor, which reads numbers.
    """

    scalars: Any
    faults: list[Fault] = field(default_factory=list)
    nodes: int = 0

    def value(self, node: Node, path: str, depth: int) -> Any:
        """The value of a node, built of plain dicts, lists and scalars.

        Args:
            node: of ruamel.yaml's graph.
            path: where it stands, for faults: "space.shots.choices[0]"; "" for the root.
            depth: collections around it.

        Raises:
            MarkedYAMLError: a key is no text, or the value is too large or too deep.
        """
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:  # a depth that only aliases reach
            raise _refused("too large once its aliases are written out", node.start_mark)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            return [
                self.value(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        quoted = isinstance(node, ScalarNode) and node.style
        return node.value if quoted else self.scalars.construct_object(node)

    def _mapping(self, node: MappingNode, path: str, depth: int) -> dict[Any, Any]:
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
