"""Defaults that follow from a study's backbone, put into its YAML where that leaves a key out.

Only the packaged backbone has such a file; with any other, methods have their authors' settings.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

from harness.config.space import DEFAULTS, METHODS
from harness.study_files import read_yaml
from ship.pocket import DEFAULTS_YAML

BACKBONE: Final = DEFAULTS.backbone
"""The backbone that the defaults are for, and that a study has by default."""


@cache
def backbone_defaults() -> Mapping[str, Any]:
    """Return the defaults of BACKBONE: keys of a trial, and settings of each method by its name."""
    return read_yaml(DEFAULTS_YAML, DEFAULTS_YAML.name)


def with_defaults(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the backbone's defaults to a study's YAML; no value of the YAML is replaced.

    Nothing is added where the backbone is another, or a factor. A method gets its settings where
    the study uses it: at the top level as the constant, under `variants` as a level of a factor.

    Args:
        tree: The YAML's mapping, spelled out, with every --set applied. It may have faults.

    Returns:
        A new mapping; and the defaults that were added, as dotted key -> value. The key of a
        method's setting contains the method's name: finetuner.coop.lr. Factors are left out.
    """
    filled, added = deepcopy(dict(tree)), dict[str, Any]()
    space = _mapping(filled.get("space"))
    if filled.get("backbone", BACKBONE) != BACKBONE or "backbone" in space:
        return filled, added
    varied = {key for key, factor in space.items() if not _mapping(factor).get("when")}
    for path, target, defaults in _places(filled, space):
        group = path.partition(".")[0]
        for key, value in defaults.items():
            if key in target:
                continue
            target[key] = value
            setting = f"{group}.{key}" if group else key
            if setting not in varied:
                added[f"{path}.{key}" if path else key] = value
    return filled, added


def _places(
    tree: dict[str, Any], space: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Yield each mapping of a study's YAML that defaults belong in: its path, it, the defaults.

    A mapping that does not exist is created; a value that should be one and is not is skipped, as
    a fault that is reported later.
    """
    known = backbone_defaults()
    groups = {key: value for key, value in known.items() if isinstance(value, dict)}
    yield "", tree, {key: value for key, value in known.items() if key not in groups}
    for group, defaults in groups.items():
        target = tree.setdefault(group, {})
        if group not in METHODS:
            places = [(group, target, defaults)]
        else:
            constant, levels = _used_methods(target, _mapping(space.get(group)))
            places = [(f"{group}.{constant}", target, defaults.get(constant, {}))]
            for level in (level for level in levels if level in defaults):
                inside = _inside(_inside(tree["variants"], group), level)
                places.append((f"{group}.{level}", inside, defaults[level]))
        yield from (place for place in places if isinstance(place[1], dict))


def _used_methods(constant: Any, factor: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the constant method that some configuration uses ("" if none), and the other levels.

    Args:
        constant: The group at the top level, with the method's name.
        factor: The group as a factor; empty if it is none.
    """
    name, choices = str(_mapping(constant).get("name")), factor.get("choices")
    levels = [*map(str, choices)] if isinstance(choices, list) else []
    is_used = not factor or factor.get("when") or name in levels
    return name if is_used else "", [level for level in levels if level != name]


def _inside(tree: Any, key: str) -> Any:
    """Return the mapping below a key, created if it is missing; None if the tree is no mapping."""
    return tree.setdefault(key, {}) if isinstance(tree, dict) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
