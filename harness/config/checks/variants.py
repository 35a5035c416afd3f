"""The settings that the variants of a varied group run with: a YAML's `variants`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.config.checks.levels import trial_faults
from harness.config.factor import Factor
from harness.config.factors import GROUPS
from harness.errors import Fault
from harness.wording import nearest

Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]

_NAMED = tuple(key for key, tags in GROUPS.items() if "" not in tags)
_OWN = (
    "max_classes", "shots", "views", "pseudo_new_fraction", "eval_every", "quality", "generator",
    "finetuner", "synthetic",
)  # fmt: skip
"""What a dataset may have of its own; the others say what a study measures, and of whom."""


def variant_faults(
    raw: Any, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> list[Fault]:
    """Faults of `variants`: group -> level of that group -> settings, each as it may stand there.

    A group's constant has its settings at the top level; the others have them here. `dataset` has
    settings of single datasets, whether it is varied or not: what the study does not run waits.

    Args:
        raw: what the YAML has under `variants`, of whatever type; None: nothing.
        space: the study's factors.
        constants: as the YAML gives them; may be faulty themselves.
    """
    if raw is None:
        return []
    if not isinstance(raw, dict):
        return [Fault("variants", "must be a mapping of groups to their levels' settings", raw)]
    faults = []
    unused = list(_unused(raw, space))
    for group, levels in raw.items():
        path = f"variants.{group}"
        known = (*_NAMED, "dataset")
        if group not in known:
            must, near = "must be a group that a study can vary", nearest(str(group), known)
            faults.append(Fault(path, must, choices=known, near=near))
        elif group in unused:
            continue
        elif not isinstance(levels, dict):
            faults.append(Fault(path, "must be a mapping of levels to settings", levels))
        elif group == "dataset":
            for name, settings in levels.items():
                faults += _dataset_faults(str(name), settings, space, constants)
        else:
            for name, settings in levels.items():
                if f"{group}.{name}" not in unused:
                    faults += _level_faults(group, name, settings, space[group], constants)
    if unused:
        drops = " ".join(f"--set variants.{path}=null" for path in unused)
        must = f"must be for levels of the space, unlike {', '.join(unused)} (drop them: {drops})"
        faults.append(Fault("variants", must))
    return faults


def _unused(raw: Mapping[Any, Any], space: Mapping[str, Factor]) -> Iterator[str]:
    """Groups that are constants, and variants that there are, yet not among a factor's levels."""
    for group in (name for name in _NAMED if name in raw):
        if group not in space:
            yield group
        elif isinstance(raw[group], dict):
            spare = (name for name in GROUPS[group] if name in raw[group])
            yield from (
                f"{group}.{name}" for name in spare if name not in (space[group].choices or ())
            )


def _level_faults(
    group: str, name: Any, settings: Any, factor: Factor, constants: Mapping[str, Any]
) -> list[Fault]:
    path = f"variants.{group}.{name}"
    levels = tuple(str(level) for level in factor.choices or ())
    if name not in levels:
        must = f"must be a level of space.{group}"
        return [Fault(path, must, choices=levels, near=nearest(str(name), levels))]
    inside = constants.get(group)
    if isinstance(inside, dict) and inside.get("name") == name:
        return [Fault(path, f"must stand under {group}, as {name} is the study's constant")]
    if not isinstance(settings, dict) or "name" in settings:
        return [Fault(path, "must be a mapping of settings without name", settings)]
    return [
        replace(fault, path=path + fault.path.removeprefix(group))
        for fault in trial_faults({group: {"name": name, **settings}})
        if fault.path.partition(".")[0] == group
    ]


def _dataset_faults(
    name: str, settings: Any, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> list[Fault]:
    from ship.datasets import DATASETS, nearest_dataset
    from ship.datasets.image_folder import PREFIX

    path = f"variants.dataset.{name}"
    if name not in DATASETS and not name.startswith(PREFIX):
        choices = (*DATASETS.names(), f"{PREFIX}NAME")
        return [Fault(path, "must be a dataset", choices=choices, near=nearest_dataset(name))]
    if not isinstance(settings, dict):
        return [Fault(path, "must be a mapping of settings", settings)]
    faults: list[Fault] = []
    for key, value in settings.items():
        if key not in _OWN:
            must = "must be a setting that a dataset may have of its own"
            near = nearest(str(key), _OWN)
            faults.append(Fault(f"{path}.{key}", must, choices=_OWN, near=near))
        elif key in GROUPS and not isinstance(value, dict):
            faults.append(Fault(f"{path}.{key}", "must be a mapping of settings", value))
        else:
            found = _own_faults(key, value, constants) or _factor_faults(key, value, space)
            faults += [replace(fault, path=f"{path}.{fault.path}") for fault in found]
    return faults


def _own_faults(key: str, value: Any, constants: Mapping[str, Any]) -> list[Fault]:
    """Faults of a setting of a dataset's own; a group's is of the constant where it names none."""
    if key not in _NAMED or "name" in value:
        return trial_faults({key: value})
    constant = constants.get(key)
    name = constant.get("name") if isinstance(constant, dict) else None
    # a constant that is faulty itself has a line of its own
    return trial_faults({key: {"name": name, **value}}) if name in GROUPS[key] else []


def _factor_faults(key: str, value: Any, space: Mapping[str, Factor]) -> list[Fault]:
    """A dataset's own value of a factor that is always there would never be used."""
    names = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
    must = "must be left out: it is a factor of the space"
    return [Fault(name, must) for name in names if name in space and not space[name].when]
