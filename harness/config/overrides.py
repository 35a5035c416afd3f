"""`--set key=value`: values parsed as YAML and put where the key points, over the file's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.factor import Factor
from harness.config.factors import FIELDS
from harness.errors import ConfigError
from harness.study_files import parse_value

# Groups that a YAML may name shortly (`finetuner: coop`); an override may reach into them.
_NAMED = ("generator", "finetuner", "scheduler")


@dataclass(frozen=True)
class Override:
    """One --set: where it points, as a dotted path and as the steps into the mapping."""

    path: str
    steps: tuple[str, ...]
    value: Any


def parse_overrides(texts: Sequence[str]) -> tuple[list[Override], list[str]]:
    """The overrides that can be read, and a line for each that cannot."""
    given: list[Override] = []
    lines: list[str] = []
    for text in texts:
        path, equals, value = text.partition("=")
        path = path.strip()
        if not equals or not all(path.split(".")):
            lines.append(f"--set: {text!r} must be key=value, e.g. shots=4")
            continue
        try:
            given.append(override_at(path, parse_value(value, f"--set: {path}")))
        except ConfigError as error:
            lines += error.faults
    return given, lines


def override_at(path: str, value: Any) -> Override:
    """The override that puts a value at a dotted path."""
    return Override(path, _steps(path), value)


def _steps(path: str) -> tuple[str, ...]:
    """Where a dotted path leads: a factor's key is itself dotted, and is one step below space."""
    parts = path.split(".")
    if parts[0] != "space" or len(parts) == 1:
        return tuple(parts)
    for index in range(2, len(parts)):
        if parts[index] in Factor.model_fields:
            head = ("space", ".".join(parts[1:index]), parts[index])
            rest = ".".join(parts[index + 1 :])
            return (*head, rest) if rest else head
    return ("space", ".".join(parts[1:]))


def apply_overrides(mapping: Mapping[str, Any], given: Sequence[Override]) -> dict[str, Any]:
    """A copy of the mapping with the overrides put in, in their order.

    `space.KEY=null` drops a factor, and `variants.GROUP=null`, `variants.GROUP.LEVEL=null` and so
    on what stands there, unless it is a setting whose value may be null. What stands in an
    override's way without being a mapping (`resources: 3` before `resources.cpus=2`) is left, so
    that its own fault is reported.
    """
    tree = dict(mapping)
    for item in given:
        tree = _dropped(tree, item.steps) if _drops(item) else _put(tree, item.steps, item.value)
    return tree


def _drops(item: Override) -> bool:
    """Whether a null says that nothing is to stand in a place, and is no value itself."""
    root, *rest = item.steps
    if item.value is not None or not rest:
        return False
    if root == "space":
        return len(rest) == 1
    if root != "variants":
        return False
    leaf = ".".join(rest[2:])  # of a level's settings; a dataset's may be of any group
    field = FIELDS.get(leaf if rest[0] == "dataset" else f"{rest[0]}.{leaf}")
    return field is None or type(None) not in field.types


def _dropped(tree: dict[str, Any], steps: Sequence[str]) -> dict[str, Any]:
    """`tree` without what stands at a place, if anything does."""
    step, *rest = steps
    inside = tree.get(step)
    if not rest:
        return {key: value for key, value in tree.items() if key != step}
    return {**tree, step: _dropped(inside, rest)} if isinstance(inside, dict) else tree


def _put(tree: dict[str, Any], steps: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`tree` with the value at its place; mappings on the way are copied, missing ones made."""
    step, *rest = steps
    if not rest:
        return {**tree, step: value}
    inside = tree.get(step)
    if inside is None:
        inside = {}
    elif isinstance(inside, str) and step in _NAMED:
        inside = {"name": inside}
    elif (step, inside) == ("resources", "auto"):
        inside = {"auto": True}
    elif isinstance(inside, list):  # a factor written as its list of choices
        inside = {"choices": inside}
    if not isinstance(inside, dict):
        return tree
    return {**tree, step: _put(inside, tuple(rest), value)}
