"""`--set key=value`: values parsed as YAML and put where the key points, over the file's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.factor import Factor
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

    `space.KEY=null` drops a factor. What stands in an override's way without being a mapping
    (`resources: 3` before `resources.cpus=2`) is left, so that its own fault is reported.
    """
    tree = dict(mapping)
    for item in given:
        if item.steps[0] == "space" and len(item.steps) == 2 and item.value is None:
            space = tree.get("space")
            if isinstance(space, dict):
                tree["space"] = {key: value for key, value in space.items() if key != item.steps[1]}
            continue
        tree = _put(tree, item.steps, item.value)
    return tree


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
    elif isinstance(inside, list):  # a factor written as its list of choices
        inside = {"choices": inside}
    if not isinstance(inside, dict):
        return tree
    return {**tree, step: _put(inside, tuple(rest), value)}
