"""Add the defaults of the packaged backbone to a study's YAML that omits their keys.

With any other backbone, the defaults of a method's options are those of its authors.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

from harness.config.space import DEFAULTS, METHODS
from harness.study_files import read_yaml
from ship.pocket import DEFAULTS_YAML

BACKBONE: Final = DEFAULTS.backbone
"""The packaged backbone. It is also the default value of `backbone`."""


@cache
def load_defaults() -> Mapping[str, Mapping[str, Any]]:
    """Return the defaults of BACKBONE: path -> key -> value.

    A path is "" (the top level), a group ("synthetic"), or a method ("finetuner.coop").
    """
    tree = read_yaml(DEFAULTS_YAML, DEFAULTS_YAML.name)
    groups = {key: tree.pop(key) for key in [*tree] if isinstance(tree[key], dict)}
    defaults: dict[str, Mapping[str, Any]] = {"": tree}
    for group, entries in groups.items():
        if group in METHODS:
            defaults |= {f"{group}.{method}": options for method, options in entries.items()}
        else:
            defaults[group] = entries
    return defaults


def add_defaults(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the defaults of BACKBONE to a study's YAML. Values of the YAML are kept.

    Nothing is added if the study has another backbone, or if `backbone` is a factor. Options of a
    constant method are added to its group at the top level. Options of a method that is a level of
    a factor are added under `variants`.

    Args:
        tree: Mapping of the YAML in long form, with every --set applied. It may have faults.

    Returns:
        A new mapping, and the defaults that take effect as dotted key -> value. The key of a
        method's option contains the method's name, e.g. finetuner.coop.lr. A default takes no
        effect if its key is a factor without `when`, or if `variants` sets the key for the study's
        only dataset.
    """
    full_tree, new_keys = deepcopy(dict(tree)), dict[str, Any]()
    space = _as_mapping(full_tree.get("space"))
    if full_tree.get("backbone", BACKBONE) != BACKBONE or "backbone" in space:
        return full_tree, new_keys
    factors = {key for key, factor in space.items() if not _as_mapping(factor).get("when")}
    dataset_options = _get_dataset_options(full_tree)
    for path, defaults in load_defaults().items():
        group, _, method = path.partition(".")
        if method:
            target = _ensure_method_options(method, group, full_tree, _as_mapping(space.get(group)))
        else:
            target = full_tree.setdefault(group, {}) if group else full_tree
        # otherwise the method is not used, or the validation will report a fault
        if not isinstance(target, dict):
            continue
        new_options = {key: value for key, value in defaults.items() if key not in target}
        target.update(new_options)
        for key, value in new_options.items():
            if (f"{group}.{key}" if group else key) not in factors and key not in dataset_options[
                path
            ]:
                new_keys[f"{path}.{key}" if path else key] = value
    return full_tree, new_keys


def _ensure_method_options(
    method: str, group: str, tree: dict[str, Any], factor: Mapping[str, Any]
) -> Any:
    """Return the mapping of a method's options in a study's YAML. Create it if it is missing.

    Args:
        method: Name of the method.
        group: generator or finetuner.
        tree: Mapping of the study's YAML, which may be changed.
        factor: Mapping of the group's factor. {} if the group is not a factor.

    Returns:
        The options. None if no configuration of the study uses the method, or if `variants` is not
        a mapping. If the YAML has another value in place of the options, that value.
    """
    constant, choices = tree.get(group), factor.get("choices")
    is_level = isinstance(choices, list) and method in choices
    if _as_mapping(constant).get("name") == method:
        return constant if is_level or not factor or factor.get("when") else None
    if not is_level or not isinstance(tree["variants"], dict):
        return None
    levels = tree["variants"].setdefault(group, {})
    return levels.setdefault(method, {}) if isinstance(levels, dict) else None


def _get_dataset_options(tree: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the options that `variants` sets for the study's only dataset.

    Returns:
        Path of `load_defaults` -> options, for every path. If `dataset` is a factor, the options
        are {}.
    """
    dataset = tree.get("dataset", load_defaults()[""].get("dataset"))
    if "dataset" in _as_mapping(tree.get("space")) or not isinstance(dataset, str):
        return {path: {} for path in load_defaults()}
    options = _as_mapping(
        _as_mapping(_as_mapping(tree.get("variants")).get("dataset")).get(dataset)
    )
    by_path = dict[str, Mapping[str, Any]]()
    for path in load_defaults():
        group, _, method = path.partition(".")
        path_options = _as_mapping(options.get(group)) if group else options
        by_path[path] = path_options if path_options.get("name", method) == method else {}
    return by_path


def _as_mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, else {}."""
    return value if isinstance(value, dict) else {}
