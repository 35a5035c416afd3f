"""Defaults that follow from a study's backbone, put into its YAML where that leaves a key out.

Only the packaged backbone has such a file; with any other, methods have their authors' settings.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

from harness.config.space import DEFAULTS, METHODS
from harness.study_files import read_yaml
from ship.pocket import DEFAULTS_YAML

BACKBONE: Final = DEFAULTS.backbone
"""The backbone that the defaults are for, and that a study has by default."""


@cache
def backbone_defaults() -> Mapping[str, Mapping[str, Any]]:
    """Return the defaults of BACKBONE: where they belong -> key -> value.

    They belong at the top level (""), in a group ("synthetic"), or in the settings of a method
    ("finetuner.coop").
    """
    tree = read_yaml(DEFAULTS_YAML, DEFAULTS_YAML.name)
    groups = {key: tree.pop(key) for key in [*tree] if isinstance(tree[key], dict)}
    defaults: dict[str, Mapping[str, Any]] = {"": tree}
    for group, inside in groups.items():
        if group in METHODS:
            defaults |= {f"{group}.{method}": settings for method, settings in inside.items()}
        else:
            defaults[group] = inside
    return defaults


def with_defaults(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the backbone's defaults to a study's YAML; no value of the YAML is replaced.

    Nothing is added where the backbone is another, or a factor. A method gets its settings where
    the study uses it: at the top level as the constant, under `variants` as a level of a factor.

    Args:
        tree: The YAML's mapping, spelled out, with every --set applied. It may have faults.

    Returns:
        A new mapping; and the defaults that were added, as dotted key -> value. The key of a
        method's setting contains the method's name: finetuner.coop.lr. Factors are left out, and
        settings that `variants` has for the study's only dataset, which replace the defaults.
    """
    filled, added = deepcopy(dict(tree)), dict[str, Any]()
    space = _mapping(filled.get("space"))
    if filled.get("backbone", BACKBONE) != BACKBONE or "backbone" in space:
        return filled, added
    varied = {key for key, factor in space.items() if not _mapping(factor).get("when")}
    replaced = _dataset_settings(filled)
    for path, defaults in backbone_defaults().items():
        group, _, method = path.partition(".")
        if method:
            target = _settings_of(method, group, filled, _mapping(space.get(group)))
        else:
            target = filled.setdefault(group, {}) if group else filled
        if not isinstance(target, dict):  # not used, or a fault that is reported later
            continue
        lacking = {key: value for key, value in defaults.items() if key not in target}
        target.update(lacking)
        for key, value in lacking.items():
            if (f"{group}.{key}" if group else key) not in varied and key not in replaced[path]:
                added[f"{path}.{key}" if path else key] = value
    return filled, added


def _settings_of(method: str, group: str, tree: dict[str, Any], factor: Mapping[str, Any]) -> Any:
    """Return what a study's YAML has for a method's settings, created if missing.

    Args:
        method: The method's name.
        group: generator or finetuner.
        tree: The study's YAML.
        factor: The group as a factor; empty if it is none.

    Returns:
        The settings; None if no configuration of the study uses the method, or no settings can be
        there because of a fault.
    """
    constant, choices = tree.get(group), factor.get("choices")
    is_level = isinstance(choices, list) and method in choices
    if _mapping(constant).get("name") == method:
        return constant if is_level or not factor or factor.get("when") else None
    if not is_level or not isinstance(tree["variants"], dict):
        return None
    levels = tree["variants"].setdefault(group, {})
    return levels.setdefault(method, {}) if isinstance(levels, dict) else None


def _dataset_settings(tree: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return what `variants` has for a study's only dataset, by the paths of backbone_defaults."""
    dataset = tree.get("dataset", backbone_defaults()[""].get("dataset"))
    if "dataset" in _mapping(tree.get("space")) or not isinstance(dataset, str):
        return {path: {} for path in backbone_defaults()}
    inside = _mapping(_mapping(_mapping(tree.get("variants")).get("dataset")).get(dataset))
    by_path = dict[str, Mapping[str, Any]]()
    for path in backbone_defaults():
        group, _, method = path.partition(".")
        settings = _mapping(inside.get(group)) if group else inside
        by_path[path] = settings if settings.get("name", method) == method else {}
    return by_path


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
