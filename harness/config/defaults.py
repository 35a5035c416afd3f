"""Defaults that depend on a study's backbone. They are added to a YAML that omits their keys.

Only the packaged backbone has such defaults. With any other backbone, methods have the options of
their authors.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

from harness.config.space import DEFAULTS, METHODS
from harness.study_files import read_yaml
from ship.pocket import DEFAULTS_YAML

BACKBONE: Final = DEFAULTS.backbone
"""Backbone of these defaults. It is also the default backbone of a study."""


@cache
def load_defaults() -> Mapping[str, Mapping[str, Any]]:
    """Return the defaults of BACKBONE: path -> key -> value.

    A path is the top level (""), a group ("synthetic"), or a method ("finetuner.coop").
    """
    tree = read_yaml(DEFAULTS_YAML, DEFAULTS_YAML.name)
    groups = {key: tree.pop(key) for key in [*tree] if isinstance(tree[key], dict)}
    defaults: dict[str, Mapping[str, Any]] = {"": tree}
    for group, methods in groups.items():
        if group in METHODS:
            defaults |= {f"{group}.{method}": settings for method, settings in methods.items()}
        else:
            defaults[group] = methods
    return defaults


def add_defaults(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the backbone's defaults to a study's YAML. Values of the YAML are kept.

    Nothing is added if the backbone is another one or a factor. Options of a method are added where
    the study uses it: at the top level as a constant, under `variants` as a level of a factor.

    Args:
        tree: Mapping of the YAML in long form, with every --set applied. It may have faults.

    Returns:
        A new mapping, and the added defaults as dotted key -> value. The key of a method's option
        contains the method's name, e.g. finetuner.coop.lr. The added defaults exclude factors, and
        options that `variants` sets for the study's only dataset, which override the defaults.
    """
    full_tree, new_keys = deepcopy(dict(tree)), dict[str, Any]()
    space = _mapping(full_tree.get("space"))
    if full_tree.get("backbone", BACKBONE) != BACKBONE or "backbone" in space:
        return full_tree, new_keys
    factors = {key for key, factor in space.items() if not _mapping(factor).get("when")}
    replaced = _dataset_settings(full_tree)
    for path, defaults in load_defaults().items():
        group, _, method = path.partition(".")
        if method:
            target = _settings_of(method, group, full_tree, _mapping(space.get(group)))
        else:
            target = full_tree.setdefault(group, {}) if group else full_tree
        if not isinstance(target, dict):  # not used, or a fault that is reported later
            continue
        new_options = {key: value for key, value in defaults.items() if key not in target}
        target.update(new_options)
        for key, value in new_options.items():
            if (f"{group}.{key}" if group else key) not in factors and key not in replaced[path]:
                new_keys[f"{path}.{key}" if path else key] = value
    return full_tree, new_keys


def _settings_of(method: str, group: str, tree: dict[str, Any], factor: Mapping[str, Any]) -> Any:
    """Return the mapping of a method's options in a study's YAML. It is created if missing.

    Args:
        method: Name of the method.
        group: generator or finetuner.
        tree: Mapping of the study's YAML.
        factor: Mapping of the group's factor. Empty if the group is not a factor.

    Returns:
        The options. None if no configuration of the study uses the method, or if a fault of the
        YAML leaves no place for them.
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
    """Return the options in `variants` for the only dataset, by the paths of backbone_defaults."""
    dataset = tree.get("dataset", load_defaults()[""].get("dataset"))
    if "dataset" in _mapping(tree.get("space")) or not isinstance(dataset, str):
        return {path: {} for path in load_defaults()}
    options = _mapping(_mapping(_mapping(tree.get("variants")).get("dataset")).get(dataset))
    by_path = dict[str, Mapping[str, Any]]()
    for path in load_defaults():
        group, _, method = path.partition(".")
        settings = _mapping(options.get(group)) if group else options
        by_path[path] = settings if settings.get("name", method) == method else {}
    return by_path


def _mapping(value: Any) -> dict[str, Any]:
    """Return a value that is a mapping, and {} in place of any other value."""
    return value if isinstance(value, dict) else {}
